# GTK 3's list of input methods. GTK shows it only on a display, so the answer is the list, which is all that GTK reads.
modules=/usr/lib/x86_64-linux-gnu/gtk-3.0/3.0.0/immodules
plugin=$modules/im-fcitx5.so
query=$(echo /usr/lib/x86_64-linux-gnu/libgtk-3-0*/gtk-query-immodules-3.0)
query=${query##* }
version() { dpkg-query -Wf '${Version}' libgtk-3-0t64 2>/dev/null || dpkg-query -Wf '${Version}' libgtk-3-0; }
prepare() { counted "$query"; }
methods() { sed -n 's,^"/.*/\(im-.*\.so\)".*,\1,p' | sort; }
ask() { methods < ${modules%/*}/immodules.cache; }
truth() { "$query.real" 2>/dev/null | methods; }
made() { runs; }
