#!/bin/bash
# python:3.11-slim-bookworm from Debian's packages, for a machine that can't pull it. Root, debootstrap, a Docker engine.
#   docker/stand_in.sh && docker build -t daydrive:cpu .
set -euo pipefail

image=python:3.11-slim-bookworm
root=$(mktemp --directory)
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --include=ca-certificates,python3.11,python3.11-venv,python3-pip bookworm "$root"
ln --symbolic /usr/bin/python3.11 "$root/usr/local/bin/python"
# Whoever this machine trusts, the image does: companies have proxies with certificates of their own.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
tar --directory "$root" --create . | docker import \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' \
    - "$image"
