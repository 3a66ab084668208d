// Programs that mine cryptocurrency, and the settings they are given.

rule Miner_Xmrig_Program
{
    meta:
        kind = "miner"
        description = "The Monero miner XMRig or a program built from it"
    strings:
        $donate = /donate\.(v2|ssl)\.xmrig\.com/
        $option = "donate-level" fullword
        $proxy = "randomx-1gb-pages"
        $algorithm = "cryptonight-heavy"
        $stratum = { 73 74 72 61 74 75 6D 2B 74 63 70 3A 2F 2F } // the scheme of a mining pool's address
    condition:
        uint32(0) == 0x464C457F and $option and 2 of ($donate, $proxy, $algorithm, $stratum)
}

rule Miner_Xmrig_Settings
{
    meta:
        kind = "miner"
        description = "Settings of the Monero miner XMRig with a pool and a wallet"
    strings:
        $donate = /"donate-level"[ \t\r\n]*:/
        $pools = /"pools"[ \t\r\n]*:[ \t\r\n]*\[/
        $pool = /"url"[ \t]*:[ \t]*"[^"\n]{4,253}:[0-9]{2,5}"/
        $wallet = /"user"[ \t]*:[ \t]*"(4[0-9AB][1-9A-HJ-NP-Za-km-z]{93}|8[1-9A-HJ-NP-Za-km-z]{94})/
    condition:
        filesize < 64KB and $donate and $pools and $pool and $wallet
}

rule Miner_Started_By_Script
{
    meta:
        kind = "miner"
        description = "A script that starts a miner with a pool and a Monero wallet"
    strings:
        $pool = /stratum\+(tcp|tcps|ssl|tls):\/\/[a-zA-Z0-9][a-zA-Z0-9.\-]{3,250}:[0-9]{2,5}/
        $address = /(-o|--url)[= \t]+[a-zA-Z0-9][a-zA-Z0-9.\-]{3,250}:[0-9]{2,5}/
        $wallet = /(-u|--user)[= \t]+['"]?4[0-9AB][1-9A-HJ-NP-Za-km-z]{93}\b/
    condition:
        filesize < 256KB and $wallet and ($pool or $address)
}
