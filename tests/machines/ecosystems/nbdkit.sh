# nbdkit keeps no answers of its own. `modstamp run` keeps them.
modules=/usr/lib/x86_64-linux-gnu/nbdkit/plugins
plugin=$modules/nbdkit-null-plugin.so
version() { dpkg-query -Wf '${Version}' nbdkit; }
prepare() { counted /usr/bin/nbdkit; }
ask() { run nbdkit --dump-plugin null | sed -n 's/^name=//p'; }
truth() { nbdkit.real --dump-plugin null | sed -n 's/^name=//p'; }
made() { runs; }
