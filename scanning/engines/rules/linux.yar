// Linux malware that is known well enough to be told apart from everything else.

rule Mirai
{
    meta:
        kind = "worm"
        severity = "critical"
        description = "The Mirai botnet or one built from it"
    strings:
        // Its table of texts, each byte combined with the key that its published source has.
        $busybox = "/bin/busybox MIRAI" xor(0x22)
        $applet = "MIRAI: applet not found" xor(0x22)
        $tunnel = "listening tun0" xor(0x22)
        $proc = "/proc/net/tcp" xor(0x22)
    condition:
        uint32(0) == 0x464C457F and filesize < 2MB and 2 of them
}

rule Rootkit_Process_Hider
{
    meta:
        kind = "rootkit"
        description = "A library for ld.so.preload that hides a process from ps and top (libprocesshider)"
    strings:
        $open = "/proc/self/fd/%d"
        $stat = "/proc/%s/stat"
        $name = "%d (%[^)]s"
        $readdir = "readdir64" fullword
        $next = "dlsym" fullword
    condition:
        uint32(0) == 0x464C457F and uint16(16) == 3 and filesize < 256KB and all of them
}

rule Elf_Upx_Header_Tampered
{
    meta:
        kind = "packed"
        description = "A program packed with UPX whose header was changed so that it cannot be unpacked"
    strings:
        $stub = "$Info: This file is packed with the UPX executable packer"
        $version = /\$Id: UPX [0-9]\.[0-9]{2} Copyright/
        $magic = "UPX!"
    condition:
        uint32(0) == 0x464C457F and $stub and $version and not $magic
}
