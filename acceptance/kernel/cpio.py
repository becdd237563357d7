"""Writes a folder as a cpio archive (newc), the form of an initramfs, to standard output."""

import os
import stat
import sys


def entry(out, inode, name, mode, data):
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    out.write(b"070701" + b"".join(b"%08X" % field for field in fields))
    pad(out, 110, name.encode() + b"\0")
    pad(out, 0, data)


def pad(out, before, data):
    out.write(data + b"\0" * (-(before + len(data)) % 4))


def main(root):
    out = sys.stdout.buffer
    inode = 1
    for folder, folders, files in os.walk(root):
        for name in sorted(folders) + sorted(files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            data = b""
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    data = file.read()
            elif stat.S_ISLNK(mode):
                data = os.readlink(path).encode()
            entry(out, inode, os.path.relpath(path, root), mode, data)
            inode += 1
    entry(out, 0, "TRAILER!!!", 0, b"")


main(sys.argv[1])
