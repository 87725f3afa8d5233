# GIO's list of modules. GSettings looks there for what brings dconf.
modules=/usr/lib/x86_64-linux-gnu/gio/modules
plugin=$modules/libdconfsettings.so
query=/usr/lib/x86_64-linux-gnu/glib-2.0/gio-querymodules
version() { dpkg-query -Wf '${Version}' libglib2.0-0t64 2>/dev/null || dpkg-query -Wf '${Version}' libglib2.0-0; }
prepare() { counted $query; }
ask() { GSETTINGS_BACKEND=help gsettings list-recursively org.gnome.desktop.a11y 2>/dev/null | sed -n 's/ *\(.*\) - [0-9]*$/\1/p'; }
truth() {
    copy=$(mktemp -d)
    cp "$modules"/*.so "$copy"
    GIO_MODULE_DIR=$copy ask
}
made() { runs; }
