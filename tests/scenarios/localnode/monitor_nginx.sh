#!/bin/bash
# What seed 001's script does: nginx that is gone is started again; if that fails, this host gives up
# being director.
killall -0 nginx 2>/dev/null && exit 0
nginx -e stderr -c /usr/local/etc/nginx.conf 2>/dev/null
sleep 0.2
killall -0 nginx 2>/dev/null || killall keepalived
