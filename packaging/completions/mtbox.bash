# bash completion for mtbox
# made from the program's tables by packaging/generate.rs; do not edit

# The names of the users in the config file $1, or in the usual one.
_mtbox_users() {
    local file=${1/#\~/$HOME}
    if [[ -z $file ]]; then
        for file in mtbox.toml /etc/mtbox/mtbox.toml; do
            [[ -f $file ]] && break
        done
    fi
    sed -n '/^[[:space:]]*\[secrets\]/,/^[[:space:]]*\[/s/^[[:space:]]*"\{0,1\}\([A-Za-z0-9_.@-]*\)"\{0,1\}[[:space:]]*=.*/\1/p' "$file" 2>/dev/null
}

# What may follow the words $1: further words, flags, flags that take a value, places.
_mtbox_shape() {
    next='' flags='' valued='' places=()
    case $1 in
        '')
            next='quickstart run simple-run generate-secret access check user stats explain doctor uci'
            flags='-h --help -v --version'
            ;;
        'quickstart')
            flags='--bind --host --config --log-level --log-format --log-to -h --help -v --version'
            valued='--bind --host --config --log-level --log-format --log-to'
            ;;
        'run')
            flags='--user --log-level --log-format --log-to -h --help -v --version'
            valued='--user --log-level --log-format --log-to'
            places=('file')
            ;;
        'simple-run')
            flags='-d --debug -c --concurrency -b --tcp-buffer -i --prefer-ip -p --domain-fronting-port --domain-fronting-host --domain-fronting-ip -n --doh-ip -t --timeout -s --socks5-proxy -a --antireplay-cache-size --proxy-protocol-listener --log-level --log-format --log-to -h --help -v --version'
            valued='-c --concurrency -b --tcp-buffer -i --prefer-ip -p --domain-fronting-port --domain-fronting-host --domain-fronting-ip -n --doh-ip -t --timeout -s --socks5-proxy -a --antireplay-cache-size --log-level --log-format --log-to'
            places=('any' 'any')
            ;;
        'generate-secret')
            flags='-x --hex -h --help -v --version'
            places=('any')
            ;;
        'access')
            flags='-i --ipv4 -I --ipv6 -p --port -x --hex --user --plain --qr -h --help -v --version'
            valued='-i --ipv4 -I --ipv6 -p --port --user'
            places=('file')
            ;;
        'check')
            flags='--strict -h --help -v --version'
            places=('file')
            ;;
        'user')
            next='add remove rotate disable enable list'
            flags='-h --help -v --version'
            ;;
        'user add')
            flags='--host --qr --no-qr --config -h --help -v --version'
            valued='--host --config'
            places=('any')
            ;;
        'user remove')
            flags='--config -h --help -v --version'
            valued='--config'
            places=('user')
            ;;
        'user rotate')
            flags='--host --qr --no-qr --config -h --help -v --version'
            valued='--host --config'
            places=('user')
            ;;
        'user disable')
            flags='--config -h --help -v --version'
            valued='--config'
            places=('user')
            ;;
        'user enable')
            flags='--config -h --help -v --version'
            valued='--config'
            places=('user')
            ;;
        'user list')
            flags='--config --json -h --help -v --version'
            valued='--config'
            ;;
        'stats')
            flags='--json -h --help -v --version'
            places=('file')
            ;;
        'explain')
            flags='--json -h --help -v --version'
            places=('file' 'user')
            ;;
        'doctor')
            flags='--json --skip-native-check --ntp --ntp-server --as-censor --target -h --help -v --version'
            valued='--ntp-server --target'
            places=('file')
            ;;
        'uci')
            flags='--package --config-dir --output -h --help -v --version'
            valued='--package --config-dir --output'
            ;;
    esac
}

# Sets $kind to what the flag $2 of the words $1 takes.
_mtbox_value() {
    case "$1 $2" in
        'quickstart --config') kind='file' ;;
        'quickstart --log-level') kind='error warn info debug' ;;
        'quickstart --log-format') kind='text json' ;;
        'quickstart --log-to') kind='stderr syslog journal' ;;
        'run --user') kind='account' ;;
        'run --log-level') kind='error warn info debug' ;;
        'run --log-format') kind='text json' ;;
        'run --log-to') kind='stderr syslog journal' ;;
        'simple-run -i' | 'simple-run --prefer-ip') kind='prefer-ipv4 prefer-ipv6 only-ipv4 only-ipv6' ;;
        'simple-run --log-level') kind='error warn info debug' ;;
        'simple-run --log-format') kind='text json' ;;
        'simple-run --log-to') kind='stderr syslog journal' ;;
        'access --user') kind='user' ;;
        'user add --config') kind='file' ;;
        'user remove --config') kind='file' ;;
        'user rotate --config') kind='file' ;;
        'user disable --config') kind='file' ;;
        'user enable --config') kind='file' ;;
        'user list --config') kind='file' ;;
        'uci --output') kind='file' ;;
        *) kind=any ;;
    esac
}

# Offers what is of the kind $1 and begins with $2.
_mtbox_offer() {
    case $1 in
        any) ;;
        account) mapfile -t COMPREPLY < <(compgen -u -- "$2") ;;
        file)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$2")
            ;;
        user) mapfile -t COMPREPLY < <(compgen -W "$(_mtbox_users "$config")" -- "$2") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2") ;;
    esac
}

_mtbox() {
    local current=${COMP_WORDS[COMP_CWORD]}
    local call='' flag='' config='' kind='' next flags valued places word
    local -i at=0 place=0
    COMPREPLY=()
    _mtbox_shape ''
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $word == '=' ]]; then
            # bash cuts --flag=value into three.
            flag=${COMP_WORDS[at - 1]}
        elif [[ -n $flag ]]; then
            [[ $flag == --config ]] && config=$word
            flag=''
        elif [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] && flag=$word
        elif [[ -n $next ]]; then
            call=${call:+$call }$word
            _mtbox_shape "$call"
        else
            [[ ${places[place]} == file && -z $config ]] && config=$word
            place+=1
        fi
    done
    if [[ $current == '=' ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 1]} current=''
    fi
    if [[ -n $flag ]]; then
        _mtbox_value "$call" "$flag"
        _mtbox_offer "$kind" "$current"
    elif [[ $current == -* ]]; then
        _mtbox_offer "$flags" "$current"
    elif [[ -n $next ]]; then
        _mtbox_offer "$next" "$current"
    else
        _mtbox_offer "${places[place]:-any}" "$current"
    fi
}

complete -F _mtbox mtbox
