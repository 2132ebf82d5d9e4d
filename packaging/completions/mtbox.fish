# fish completion for mtbox
# made from the program's tables by packaging/generate.rs; do not edit

# Flags of the call $argv[1] that take a value.
function __mtbox_valued
    switch $argv[1]
        case 'quickstart'
            printf '%s\n' --bind --host --config --log-level --log-format --log-to
        case 'run'
            printf '%s\n' --user --log-level --log-format --log-to
        case 'simple-run'
            printf '%s\n' -c --concurrency -b --tcp-buffer -i --prefer-ip -p --domain-fronting-port --domain-fronting-host --domain-fronting-ip -n --doh-ip -t --timeout -s --socks5-proxy -a --antireplay-cache-size --log-level --log-format --log-to
        case 'access'
            printf '%s\n' -i --ipv4 -I --ipv6 -p --port --user
        case 'user add'
            printf '%s\n' --host --config
        case 'user remove'
            printf '%s\n' --config
        case 'user rotate'
            printf '%s\n' --host --config
        case 'user disable'
            printf '%s\n' --config
        case 'user enable'
            printf '%s\n' --config
        case 'user list'
            printf '%s\n' --config
        case 'doctor'
            printf '%s\n' --ntp-server --target
        case 'uci'
            printf '%s\n' --package --config-dir --output
    end
end

# Prints the call before the cursor on one line, and each argument behind it on a line of its own.
function __mtbox_words
    set -l call ''
    set -l arguments
    set -l is_value 0
    for word in (commandline -opc)[2..-1]
        if test $is_value = 1
            set is_value 0
        else if string match -q -- '-*' $word
            contains -- $word (__mtbox_valued $call); and set is_value 1
        else if contains -- $call '' 'user'
            set call (string trim -- "$call $word")
        else
            set -a arguments $word
        end
    end
    printf '%s\n' $call $arguments
end

# Is the call $argv[1] before the cursor, and $argv[2] arguments behind it, if given?
function __mtbox_at
    set -l words (__mtbox_words)
    test "$words[1]" = "$argv[1]"; or return 1
    test (count $argv) = 1; or test (math (count $words) - 1) = $argv[2]
end

# The value of the flag --config before the cursor, if it is there.
function __mtbox_config
    set -l words (commandline -opc)
    if set -l at (contains -i -- --config $words)
        printf '%s\n' $words[(math $at + 1)]
    else
        string replace -f -- --config= '' $words
    end
end

# The names of the users in the config file $argv[1], or in the usual one.
function __mtbox_users
    set -l file (string replace -r '^~' ~ -- $argv[1])
    if test -z "$file"
        for usual in mtbox.toml /etc/mtbox/mtbox.toml
            set file $usual
            test -f $file; and break
        end
    end
    sed -n '/^[[:space:]]*\[secrets\]/,/^[[:space:]]*\[/s/^[[:space:]]*"\{0,1\}\([A-Za-z0-9_.@-]*\)"\{0,1\}[[:space:]]*=.*/\1/p' $file 2>/dev/null
end

complete -c mtbox -f

complete -c mtbox -n '__mtbox_at "" 0' -a quickstart -d 'Make a config with one user if there is none, print the links, and run.'
complete -c mtbox -n '__mtbox_at "" 0' -a run -d 'Run the proxy by a config file.'
complete -c mtbox -n '__mtbox_at "" 0' -a simple-run -d 'Run the proxy for one secret, without a file.'
complete -c mtbox -n '__mtbox_at "" 0' -a generate-secret -d 'Make a secret for a host and print it.'
complete -c mtbox -n '__mtbox_at "" 0' -a access -d 'Print the links for the users of a config file, as JSON, plain or as QR codes.'
complete -c mtbox -n '__mtbox_at "" 0' -a check -d 'Tell what is wrong with a config file, and where.'
complete -c mtbox -n '__mtbox_at "" 0' -a user -d 'add, remove, rotate, disable, enable, list'
complete -c mtbox -n '__mtbox_at "" 0' -a stats -d 'Ask the running proxy who is connected and who uses what.'
complete -c mtbox -n '__mtbox_at "" 0' -a explain -d 'Ask the running proxy why a user was refused, and what helps.'
complete -c mtbox -n '__mtbox_at "" 0' -a doctor -d 'Look at everything that a config depends on, and say what to do.'
complete -c mtbox -n '__mtbox_at "" 0' -a uci -d 'Make a config file from /etc/config/mtbox on OpenWrt.'
complete -c mtbox -n '__mtbox_at ""' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at ""' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "quickstart"' -l bind -x -d 'where clients connect (first start only)'
complete -c mtbox -n '__mtbox_at "quickstart"' -l host -x -d 'site that strangers see, www.google.com if not given (first start only)'
complete -c mtbox -n '__mtbox_at "quickstart"' -l config -r -F -d 'the file, mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "quickstart"' -l log-level -x -a 'error warn info debug' -d 'what to log: error, warn, info or debug'
complete -c mtbox -n '__mtbox_at "quickstart"' -l log-format -x -a 'text json' -d 'how a line of the log looks: text or json'
complete -c mtbox -n '__mtbox_at "quickstart"' -l log-to -x -a 'stderr syslog journal' -d 'where the log goes: stderr, syslog or journal'
complete -c mtbox -n '__mtbox_at "quickstart"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "quickstart"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "run" 0' -F
complete -c mtbox -n '__mtbox_at "run"' -l user -x -a '(__fish_complete_users)' -d 'who to be when started as root: a name or UID:GID'
complete -c mtbox -n '__mtbox_at "run"' -l log-level -x -a 'error warn info debug' -d 'what to log: error, warn, info or debug'
complete -c mtbox -n '__mtbox_at "run"' -l log-format -x -a 'text json' -d 'how a line of the log looks: text or json'
complete -c mtbox -n '__mtbox_at "run"' -l log-to -x -a 'stderr syslog journal' -d 'where the log goes: stderr, syslog or journal'
complete -c mtbox -n '__mtbox_at "run"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "run"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "simple-run"' -s d -l debug -d 'log every connection\'s story too'
complete -c mtbox -n '__mtbox_at "simple-run"' -s c -l concurrency -x -d 'most connections at once (8192)'
complete -c mtbox -n '__mtbox_at "simple-run"' -s b -l tcp-buffer -x -d 'has no effect'
complete -c mtbox -n '__mtbox_at "simple-run"' -s i -l prefer-ip -x -a 'prefer-ipv4 prefer-ipv6 only-ipv4 only-ipv6' -d 'prefer-ipv4, prefer-ipv6, only-ipv4, ..'
complete -c mtbox -n '__mtbox_at "simple-run"' -s p -l domain-fronting-port -x -d 'where strangers go (443)'
complete -c mtbox -n '__mtbox_at "simple-run"' -l domain-fronting-host -x -d 'where they go instead of the host'
complete -c mtbox -n '__mtbox_at "simple-run"' -l domain-fronting-ip -x -d 'has no effect'
complete -c mtbox -n '__mtbox_at "simple-run"' -s n -l doh-ip -x -d 'ask https://IP for names'
complete -c mtbox -n '__mtbox_at "simple-run"' -s t -l timeout -x -d 'how long a dial or a download may take (10s)'
complete -c mtbox -n '__mtbox_at "simple-run"' -s s -l socks5-proxy -x -d 'a SOCKS5 proxy on the way to Telegram'
complete -c mtbox -n '__mtbox_at "simple-run"' -s a -l antireplay-cache-size -x -d 'most memory against replays (1MB)'
complete -c mtbox -n '__mtbox_at "simple-run"' -l proxy-protocol-listener -d 'accept PROXY protocol headers'
complete -c mtbox -n '__mtbox_at "simple-run"' -l log-level -x -a 'error warn info debug' -d 'what to log: error, warn, info or debug'
complete -c mtbox -n '__mtbox_at "simple-run"' -l log-format -x -a 'text json' -d 'how a line of the log looks: text or json'
complete -c mtbox -n '__mtbox_at "simple-run"' -l log-to -x -a 'stderr syslog journal' -d 'where the log goes: stderr, syslog or journal'
complete -c mtbox -n '__mtbox_at "simple-run"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "simple-run"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "generate-secret"' -s x -l hex -d 'print hexadecimal instead of base64'
complete -c mtbox -n '__mtbox_at "generate-secret"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "generate-secret"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "access" 0' -F
complete -c mtbox -n '__mtbox_at "access"' -s i -l ipv4 -x -d 'public IPv4 address, if the file states none'
complete -c mtbox -n '__mtbox_at "access"' -s I -l ipv6 -x -d 'public IPv6 address, if the file states none'
complete -c mtbox -n '__mtbox_at "access"' -s p -l port -x -d 'port for the links, if not the first listener\'s'
complete -c mtbox -n '__mtbox_at "access"' -s x -l hex -d 'hexadecimal secrets in the links'
complete -c mtbox -n '__mtbox_at "access"' -l user -x -a '(__mtbox_users (__mtbox_words)[2])' -d 'this user only'
complete -c mtbox -n '__mtbox_at "access"' -l plain -d 'one link per line, with the name before it if there are several'
complete -c mtbox -n '__mtbox_at "access"' -l qr -d 'draw the first link of each user as a QR code'
complete -c mtbox -n '__mtbox_at "access"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "access"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "check" 0' -F
complete -c mtbox -n '__mtbox_at "check"' -l strict -d 'warnings are errors'
complete -c mtbox -n '__mtbox_at "check"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "check"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user" 0' -a add -d 'Add a user to the config, print the link, and tell the running proxy.'
complete -c mtbox -n '__mtbox_at "user" 0' -a remove -d 'Take a user out of the config; sessions end.'
complete -c mtbox -n '__mtbox_at "user" 0' -a rotate -d 'Give a user another secret, and print the new link; sessions end.'
complete -c mtbox -n '__mtbox_at "user" 0' -a disable -d 'Keep a user out for now; sessions end, the link stays the same.'
complete -c mtbox -n '__mtbox_at "user" 0' -a enable -d 'Let a disabled user in again.'
complete -c mtbox -n '__mtbox_at "user" 0' -a list -d 'List the users of a config file, with their hosts.'
complete -c mtbox -n '__mtbox_at "user"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user add"' -l host -x -d 'site that strangers see, if not the usual one'
complete -c mtbox -n '__mtbox_at "user add"' -l qr -d 'draw the link as a QR code, also where nobody looks'
complete -c mtbox -n '__mtbox_at "user add"' -l no-qr -d 'do not draw it'
complete -c mtbox -n '__mtbox_at "user add"' -l config -r -F -d 'the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "user add"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user add"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user remove" 0' -a '(__mtbox_users (__mtbox_config))'
complete -c mtbox -n '__mtbox_at "user remove"' -l config -r -F -d 'the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "user remove"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user remove"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user rotate" 0' -a '(__mtbox_users (__mtbox_config))'
complete -c mtbox -n '__mtbox_at "user rotate"' -l host -x -d 'site that strangers see, if not the usual one'
complete -c mtbox -n '__mtbox_at "user rotate"' -l qr -d 'draw the link as a QR code, also where nobody looks'
complete -c mtbox -n '__mtbox_at "user rotate"' -l no-qr -d 'do not draw it'
complete -c mtbox -n '__mtbox_at "user rotate"' -l config -r -F -d 'the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "user rotate"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user rotate"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user disable" 0' -a '(__mtbox_users (__mtbox_config))'
complete -c mtbox -n '__mtbox_at "user disable"' -l config -r -F -d 'the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "user disable"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user disable"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user enable" 0' -a '(__mtbox_users (__mtbox_config))'
complete -c mtbox -n '__mtbox_at "user enable"' -l config -r -F -d 'the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "user enable"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user enable"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "user list"' -l config -r -F -d 'the file, mtbox.toml or /etc/mtbox/mtbox.toml if not given'
complete -c mtbox -n '__mtbox_at "user list"' -l json -d 'for programs'
complete -c mtbox -n '__mtbox_at "user list"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "user list"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "stats" 0' -F
complete -c mtbox -n '__mtbox_at "stats"' -l json -d 'as the proxy says it, for programs'
complete -c mtbox -n '__mtbox_at "stats"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "stats"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "explain" 0' -F
complete -c mtbox -n '__mtbox_at "explain" 1' -a '(__mtbox_users (__mtbox_words)[2])'
complete -c mtbox -n '__mtbox_at "explain"' -l json -d 'as the proxy says it, for programs'
complete -c mtbox -n '__mtbox_at "explain"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "explain"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "doctor" 0' -F
complete -c mtbox -n '__mtbox_at "doctor"' -l json -d 'print one JSON object'
complete -c mtbox -n '__mtbox_at "doctor"' -l skip-native-check -d 'do not try Telegram without the proxies'
complete -c mtbox -n '__mtbox_at "doctor"' -l ntp -d 'compare the clock with a time server, 0.pool.ntp.org'
complete -c mtbox -n '__mtbox_at "doctor"' -l ntp-server -x -d 'compare it with this one'
complete -c mtbox -n '__mtbox_at "doctor"' -l as-censor -d 'only this: probe the proxy and the site, tell differences'
complete -c mtbox -n '__mtbox_at "doctor"' -l target -x -d 'probe this, not the first listener'
complete -c mtbox -n '__mtbox_at "doctor"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "doctor"' -s v -l version -d 'print the version'

complete -c mtbox -n '__mtbox_at "uci"' -l package -x -d 'the file in that folder, mtbox if not given'
complete -c mtbox -n '__mtbox_at "uci"' -l config-dir -x -d 'the folder, /etc/config if not given'
complete -c mtbox -n '__mtbox_at "uci"' -l output -r -F -d 'the file to write'
complete -c mtbox -n '__mtbox_at "uci"' -s h -l help -d 'print this help'
complete -c mtbox -n '__mtbox_at "uci"' -s v -l version -d 'print the version'
