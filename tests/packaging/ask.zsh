# Prints what zsh would offer, one a line: the folder of _mtbox, the line, the folder to stand in.
# A shell of its own on a pseudo-terminal is asked, since completion works only within an editor.
zmodload zsh/zpty || exit 1
zpty asked zsh -f -i
zpty -w asked "PROMPT= PS2=; stty -echo; fpath=($1 \$fpath); cd $3"
# Calls of compadd that only fill arrays offer nothing.
zpty -w asked 'autoload -Uz compinit; compinit -u -D
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a matches
    builtin compadd -A matches "$@"
    print -rl -- @@@${^matches}
}
_tell() {
    _main_complete
    print -r -- "@@@"END
    exit
}
zle -C tell complete-word _tell
bindkey "^I" tell
print @@@"READY"'
zpty -r -m asked line '*@@@READY*'
zpty -n -w asked "$2"$'\t'
while zpty -r asked line $'*\n'; do
    line=${line//[$'\r\n']/}
    [[ $line == *@@@END* ]] && exit 0
    [[ $line == *@@@* ]] && print -r -- ${line##*@@@}
done
exit 1
