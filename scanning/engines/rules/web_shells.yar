// Scripts in a web server's folder that run what a visitor sends them.

rule Web_Shell_Php_Runs_Request
{
    meta:
        kind = "web_shell"
        description = "A PHP script that runs what a request sends"
    strings:
        $open = /<\?(php\b|=)/ nocase
        $run = /\b(eval|assert|system|exec|shell_exec|passthru|popen|proc_open|pcntl_exec)[ \t]*\([ \t]*@?((base64_decode|gzinflate|gzuncompress|str_rot13|stripslashes|urldecode|hex2bin|trim)[ \t]*\([ \t]*){0,4}@?\$_(GET|POST|REQUEST|COOKIE)[ \t]*[\[{]/ nocase
        $ticks = /`[ \t]*\$_(GET|POST|REQUEST|COOKIE)[ \t]*[\[{][^`\n]{1,64}`/
        $called = /\$_(GET|POST|REQUEST|COOKIE)[ \t]*\[[^\]\n]{1,32}\][ \t]*\([ \t]*@?\$_(GET|POST|REQUEST|COOKIE)[ \t]*\[/
    condition:
        filesize < 1MB and $open in (0 .. 1024) and any of ($run, $ticks, $called)
}

rule Web_Shell_Php_Hidden_Code
{
    meta:
        kind = "web_shell"
        severity = "high"
        description = "A PHP script that unpacks and runs code hidden in a long text"
    strings:
        $open = /<\?(php\b|=)/ nocase
        $hidden = /\beval[ \t]*\([ \t]*@?(gzinflate|gzuncompress|str_rot13|strrev)[ \t]*\([ \t]*((gzinflate|str_rot13|strrev)[ \t]*\([ \t]*){0,3}base64_decode[ \t]*\([ \t]*["'][A-Za-z0-9+\/=]{200}/ nocase
    condition:
        filesize < 4MB and $open in (0 .. 1024) and $hidden
}

rule Web_Shell_Php_Known
{
    meta:
        kind = "web_shell"
        description = "A web shell known by name (WSO, c99, b374k)"
    strings:
        $open = /<\?(php\b|=)/ nocase
        $wso = /\$default_action[ \t]*=[ \t]*['"]FilesMan['"]/
        $c99 = /\$shver[ \t]*=[ \t]*["'][0-9][^"'\n]{1,40}["'];[^\n]{0,200}\$surl\b/
        $b374k = /\$GLOBALS\[['"]pass['"]\][ \t]*=[ \t]*["'][0-9a-f]{32,40}["'][ \t]*;[^\n]{0,80}(sha1\(md5|b374k)/
    condition:
        filesize < 2MB and $open in (0 .. 1024) and any of ($wso, $c99, $b374k)
}

rule Web_Shell_Jsp
{
    meta:
        kind = "web_shell"
        description = "A Java server page that runs what a request sends"
    strings:
        $page = "<%"
        $direct = /getRuntime[ \t]*\([ \t]*\)[ \t]*\.[ \t]*exec[ \t]*\([ \t]*(new[ \t]+String[ \t]*\[[ \t]*\][ \t]*\{[^}\n]{0,80})?request[ \t]*\.[ \t]*getParameter[ \t]*\(/
        $named = /request[ \t]*\.[ \t]*getParameter[ \t]*\([ \t]*"(cmd|command|pwd|exec|shell)"[ \t]*\)/
        $run = /getRuntime[ \t]*\([ \t]*\)[ \t]*\.[ \t]*exec[ \t]*\(/
        $builder = /new[ \t]+ProcessBuilder[ \t]*\(/
        $loader = /extends[ \t]+ClassLoader[ \t]*\{[^\n]{0,200}defineClass[ \t]*\(/
        $cipher = /Cipher[ \t]*\.[ \t]*getInstance[ \t]*\([ \t]*"AES/
        $session = /session[ \t]*\.[ \t]*(putValue|setAttribute)[ \t]*\([ \t]*"(u|payload)"/
    condition:
        filesize < 256KB and $page in (0 .. 4096)
        and ($direct or ($named and ($run or $builder)) or ($loader and $cipher and $session))
}

rule Web_Shell_Aspx
{
    meta:
        kind = "web_shell"
        description = "An ASP page that evaluates what a request sends"
    strings:
        $page = /<%@?[ \t]*(page|language)/ nocase
        $eval = /\b(eval|execute|executeglobal)[ \t(]+request(\.(item|form|querystring))?[ \t]*[\[(][ \t]*["'][^"'\n]{1,40}["'][ \t]*[\])]/ nocase
    condition:
        filesize < 256KB and $page in (0 .. 1024) and $eval
}
