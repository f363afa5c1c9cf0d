# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_onionbus_global_optspecs
    string join \n socket= h/help V/version
end

function __fish_onionbus_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_onionbus_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_onionbus_using_subcommand
    set -l cmd (__fish_onionbus_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c onionbus -n "__fish_onionbus_needs_command" -l socket -d 'The daemon\'s socket or HOST:PORT, as after the command' -r -F
complete -c onionbus -n "__fish_onionbus_needs_command" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_needs_command" -s V -l version -d 'Print version'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "serve" -d 'Run the daemon'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "post" -d 'Post a message to one controller or to all'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "watch" -d 'Print events as they happen'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "controllers" -d 'List the connected controllers'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "onions" -d 'List the onion services that are kept, and whose they are'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "recent" -d 'Print the messages that the daemon remembers'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "status" -d 'Print how the daemon is, and what it has done since its start'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "metrics" -d 'Print the same as metrics for Prometheus'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "actions" -d 'Print who has changed what, as far as the daemon remembers it'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "info" -d 'Ask the daemon for values'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "conf" -d 'Read or change the daemon\'s options'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "command" -d 'Send one line of the control protocol and print the reply'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "shell" -d 'Talk to the daemon, or to a Tor, at a prompt'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "check" -d 'Check a configuration file without starting anything'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "policy" -d 'Say what a policy grants, without a daemon'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "hash-password" -d 'Hash a password as Tor does, for an option file'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c onionbus -n "__fish_onionbus_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbus -n "__fish_onionbus_using_subcommand serve" -l config -d 'Read options from this file' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand serve" -l socket -d 'Listen at this path or port (option `BusSocket`)' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand serve" -l state -d 'Keep what must survive a restart here (option `BusStateDirectory`)' -r -f -a "(__fish_complete_directories)"
complete -c onionbus -n "__fish_onionbus_using_subcommand serve" -l tor -d 'The control port of the Tor behind the bus: unix:PATH or HOST:PORT, or PATH or PORT alone' -r
complete -c onionbus -n "__fish_onionbus_using_subcommand serve" -l set -d 'Set an option as this line of a file would: \'Option value\', or Option=value; may be repeated' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand serve" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand post" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand post" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand post" -l strict -d 'Refuse empty lines of standard input and those that end with CR LF'
complete -c onionbus -n "__fish_onionbus_using_subcommand post" -l id -d 'Print the number of each message'
complete -c onionbus -n "__fish_onionbus_using_subcommand post" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -l count -d 'End after this many events' -r
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -l time -d 'Print before each event when it came, in UTC'
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -l reconnect -d 'When the connection ends, connect again, as soon as a daemon answers'
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -l json -d 'Print an object of JSON a line; octets that are not UTF-8 become \\xhh in it'
complete -c onionbus -n "__fish_onionbus_using_subcommand watch" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand controllers" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand controllers" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand controllers" -l long -d 'Who and what each is, where it came in, and what waits for it'
complete -c onionbus -n "__fish_onionbus_using_subcommand controllers" -l json -d 'Print an object of JSON a line; octets that are not UTF-8 become \\xhh in it'
complete -c onionbus -n "__fish_onionbus_using_subcommand controllers" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand onions" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand onions" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand onions" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand recent" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand recent" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand recent" -l json -d 'Print an object of JSON a line; octets that are not UTF-8 become \\xhh in it'
complete -c onionbus -n "__fish_onionbus_using_subcommand recent" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand status" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand status" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand status" -l json -d 'Print an object of JSON a line; octets that are not UTF-8 become \\xhh in it'
complete -c onionbus -n "__fish_onionbus_using_subcommand status" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand metrics" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand metrics" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand metrics" -l output -d 'Write them to this file, which is replaced as a whole' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand actions" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand actions" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand actions" -l follow -d 'Go on with what is done from now on'
complete -c onionbus -n "__fish_onionbus_using_subcommand actions" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand info" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand info" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand info" -l json -d 'Print an object of JSON a line; octets that are not UTF-8 become \\xhh in it'
complete -c onionbus -n "__fish_onionbus_using_subcommand info" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and not __fish_seen_subcommand_from get set help" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and not __fish_seen_subcommand_from get set help" -f -a "get" -d 'Print options as Key=Value'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and not __fish_seen_subcommand_from get set help" -f -a "set" -d 'Change options in the running daemon'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and not __fish_seen_subcommand_from get set help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from get" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from get" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from get" -l json -d 'Print an object of JSON a line; octets that are not UTF-8 become \\xhh in it'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from set" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from set" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from help" -f -a "get" -d 'Print options as Key=Value'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from help" -f -a "set" -d 'Change options in the running daemon'
complete -c onionbus -n "__fish_onionbus_using_subcommand conf; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbus -n "__fish_onionbus_using_subcommand command" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand command" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand command" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand shell" -l socket -d 'The daemon\'s socket, or HOST:PORT [default: where `serve` listens without its own]' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand shell" -l as -l name -d 'Take this name on the bus first' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand shell" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand check" -l config -d 'The file to check, as `serve` is given it' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand check" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and not __fish_seen_subcommand_from try show learn help" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and not __fish_seen_subcommand_from try show learn help" -f -a "try" -d 'Judge one command as the daemon would'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and not __fish_seen_subcommand_from try show learn help" -f -a "show" -d 'Print everything that is granted'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and not __fish_seen_subcommand_from try show learn help" -f -a "learn" -d 'Print the block that allows what an audit log tells of'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and not __fish_seen_subcommand_from try show learn help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -l config -d 'The option file that names the policy files' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -l user -d 'A user, by name or number [default: whoever runs this]' -r -f -a "(__fish_complete_users)"
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -l group -d 'A group, by name or number, instead of the user\'s own; may be repeated' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -l socket -d 'The socket that it comes through, as the option file has it' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -l unit -d 'The unit of the service manager that it is' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -l label -d 'The label that a security module gives it' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from try" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -l config -d 'The option file that names the policy files' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -l user -d 'A user, by name or number [default: whoever runs this]' -r -f -a "(__fish_complete_users)"
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -l group -d 'A group, by name or number, instead of the user\'s own; may be repeated' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -l socket -d 'The socket that it comes through, as the option file has it' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -l unit -d 'The unit of the service manager that it is' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -l label -d 'The label that a security module gives it' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from learn" -l from -d 'The audit log; may be repeated' -r -F
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from learn" -l user -d 'Only what this user did, by name or number; the block is for that user then' -r -f -a "(__fish_complete_users)"
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from learn" -l profile -d 'The block\'s name' -r -f
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from learn" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "try" -d 'Judge one command as the daemon would'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print everything that is granted'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "learn" -d 'Print the block that allows what an audit log tells of'
complete -c onionbus -n "__fish_onionbus_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbus -n "__fish_onionbus_using_subcommand hash-password" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand completions" -s h -l help -d 'Print help'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "serve" -d 'Run the daemon'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "post" -d 'Post a message to one controller or to all'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "watch" -d 'Print events as they happen'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "controllers" -d 'List the connected controllers'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "onions" -d 'List the onion services that are kept, and whose they are'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "recent" -d 'Print the messages that the daemon remembers'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "status" -d 'Print how the daemon is, and what it has done since its start'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "metrics" -d 'Print the same as metrics for Prometheus'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "actions" -d 'Print who has changed what, as far as the daemon remembers it'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "info" -d 'Ask the daemon for values'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "conf" -d 'Read or change the daemon\'s options'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "command" -d 'Send one line of the control protocol and print the reply'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "shell" -d 'Talk to the daemon, or to a Tor, at a prompt'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "check" -d 'Check a configuration file without starting anything'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "policy" -d 'Say what a policy grants, without a daemon'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "hash-password" -d 'Hash a password as Tor does, for an option file'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "completions" -d 'Print the completions for a shell'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and not __fish_seen_subcommand_from serve post watch controllers onions recent status metrics actions info conf command shell check policy hash-password completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and __fish_seen_subcommand_from conf" -f -a "get" -d 'Print options as Key=Value'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and __fish_seen_subcommand_from conf" -f -a "set" -d 'Change options in the running daemon'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and __fish_seen_subcommand_from policy" -f -a "try" -d 'Judge one command as the daemon would'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and __fish_seen_subcommand_from policy" -f -a "show" -d 'Print everything that is granted'
complete -c onionbus -n "__fish_onionbus_using_subcommand help; and __fish_seen_subcommand_from policy" -f -a "learn" -d 'Print the block that allows what an audit log tells of'

# The names that there are now: onionbus asks the daemon.
function __fish_onionbus_names
    set -l line (commandline -opc) (commandline -ct)
    $line[1] completions fish -- $line 2>/dev/null
end

complete -c onionbus -n "__fish_onionbus_using_subcommand post watch info conf command" -f -a "(__fish_onionbus_names)"
