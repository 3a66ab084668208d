// Programs and scripts that hand a shell to whoever waits at the other end of a connection.
// Patterns are written so that they do not match their own text.

rule Reverse_Shell_Bash
{
    meta:
        kind = "backdoor"
        description = "An interactive shell tied to a network connection by /dev/tcp"
    strings:
        $shell = /\b(ba|z|k|da)?sh[ \t]+-i[ \t]*(>&|&>|>)[ \t]*\/dev\/(tcp|udp)\/[0-9a-zA-Z][0-9a-zA-Z.\-]{1,250}\/[0-9]{1,5}[ \t]+(0[<>]&1|2>&1)/
        $exec = /\bexec[ \t]+[0-9]{1,3}<>[ \t]*\/dev\/tcp\/[0-9a-zA-Z][0-9a-zA-Z.\-]{1,250}\/[0-9]{1,5}[ \t]*;[ \t]*(cat[ \t]*<&|sh[ \t]*<&|while read)/
    condition:
        filesize < 256KB and any of them
}

rule Reverse_Shell_Netcat
{
    meta:
        kind = "backdoor"
        description = "An interactive shell tied to netcat"
    strings:
        $fifo = /\bmkfifo[ \t]+(\/[\w.\-\/]{1,100})[ \t]*(;|&&)[ \t]*(\/bin\/)?(cat|nc)[ \t][^\n]{1,200}\|[ \t]*(\/bin\/)?(ba)?sh[ \t]+-i[ \t]+2>&1[ \t]*\|[ \t]*(openssl|ncat|nc)[ \t]/
        $exec = /\b(nc|ncat|netcat)([ \t]+-[a-z]{1,6}){0,4}[ \t]+(-e|-c|--exec)[ \t]+["']?\/bin\/(ba)?sh["']?[ \t]+[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}[ \t]+[0-9]{2,5}\b/
    condition:
        filesize < 256KB and any of them
}

rule Reverse_Shell_Python
{
    meta:
        kind = "backdoor"
        description = "A Python script that ties a shell to a network connection"
    strings:
        $connect = /\.connect\(\([ \t]*["'][^"'\n]{1,253}["'][ \t]*,[ \t]*(int\()?["']?[0-9]{1,5}/
        $dup = /os\.dup2\([ \t]*\w{1,32}\.fileno\(\)[ \t]*,[ \t]*[012][ \t]*\)/
        $call = /(subprocess\.(call|run|Popen)|os\.execv?p?)\([ \t]*\[?[ \t]*["'](\/bin\/)?(ba)?sh["']/
        $terminal = /pty\.spawn\([ \t]*\[?[ \t]*["'](\/bin\/|\/usr\/bin\/)?(ba)?sh["']/
    condition:
        filesize < 64KB and $connect and $dup and ($call or $terminal)
}

rule Reverse_Shell_Perl
{
    meta:
        kind = "backdoor"
        description = "A Perl script that ties a shell to a network connection"
    strings:
        $input = /open\([ \t]*STDIN[ \t]*,[ \t]*["']>&/
        $output = /open\([ \t]*STDOUT[ \t]*,[ \t]*["']>&/
        $shell = /(exec|system)[ \t]*\(?[ \t]*["']\/bin\/(ba)?sh -i["']/
        $connect = /connect\([ \t]*\w{1,32}[ \t]*,[ \t]*sockaddr_in\(/
    condition:
        filesize < 64KB and all of them
}

rule Reverse_Shell_Php_Or_Ruby
{
    meta:
        kind = "backdoor"
        description = "A script that ties an interactive shell to a socket it opened"
    strings:
        $php = /fsockopen\([ \t]*["'][^"'\n]{1,253}["'][ \t]*,[ \t]*[0-9]{1,5}[^\n]{0,80};[ \t]*(exec|system|shell_exec|passthru|popen|proc_open|`)\(?[ \t]*["']?(\/bin\/)?(ba)?sh/
        $ruby = /TCPSocket\.(new|open)\([^\n]{1,200}(exec|spawn)[ \t(]+(sprintf\()?["']\/bin\/(ba)?sh -i <&/
    condition:
        filesize < 64KB and any of them
}

rule Reverse_Shell_Elf_Stager
{
    meta:
        kind = "backdoor"
        description = "A very small program that connects back and runs what it is sent (Metasploit)"
    strings:
        $shell_64 = { 6A 29 58 99 6A 02 5F 6A 01 5E 0F 05 48 97 48 B9 02 00 }
        $stage_64 = { 6A 09 58 99 B6 10 48 89 D6 4D 31 C9 6A 22 41 5A (B2 07 | 6A 07 5A) 0F 05 48 85 C0 78 }
        $shell_32 = { 31 DB F7 E3 53 43 53 6A 02 89 E1 B0 66 CD 80 93 59 B0 3F CD 80 49 79 F9 68 }
    condition:
        uint32(0) == 0x464C457F and filesize < 8KB and any of them
}
