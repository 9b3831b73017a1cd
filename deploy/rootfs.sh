#!/bin/sh
# The file system of the image: the program, what it is linked with, certificate authorities, a user, and nothing else.
#   deploy/rootfs.sh PROGRAM FOLDER
# The Dockerfile runs it where the program was built; CI runs it too, and then the program in it.
set -eu

program=$1
root=$2
umask 022
mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/var/lib/negstream"
mkdir -p -m 1777 "$root/tmp"
cp "$program" "$root/usr/local/bin/negstream"
strip "$root/usr/local/bin/negstream"
# The loader and the libraries, where the program looks for them (libc, libm, libgcc_s, …).
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'negstream:x:10001:10001::/var/lib/negstream:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'negstream:x:10001:' >"$root/etc/group"
