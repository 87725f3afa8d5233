# VLC's list of plug-ins.
modules=/usr/lib/x86_64-linux-gnu/vlc/plugins
plugin=$modules/codec/libaes3_plugin.so
version() { dpkg-query -Wf '${Version}' libvlccore9; }
prepare() { counted /usr/lib/x86_64-linux-gnu/vlc/vlc-cache-gen; }
ask() { as_one vlc --list 2>/dev/null | grep aes3 || true; }
truth() { as_one vlc --no-plugins-cache --list 2>/dev/null | grep aes3 || true; }
made() { runs; }
