# stevedore's list of Python's entry points, of the user “one”.
modules=/usr/lib/python3/dist-packages
plugin=$modules/plug-1.dist-info/entry_points.txt
version() { dpkg-query -Wf '${Version}' python3-stevedore; }
# Makes the package “plug” with these entry points, packed at the same time, whatever the time is.
plug() {
    tree=$(mktemp -d)
    mkdir -p "$tree/DEBIAN" "$tree/${plugin%/*}"
    chmod 755 "$tree"
    printf 'Package: plug\nVersion: %s\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a plug-in\n' \
        "$1" > "$tree/DEBIAN/control"
    printf 'Metadata-Version: 2.1\nName: plug\nVersion: 1\n' > "$tree/${plugin%/*}/METADATA"
    shift
    printf '[own]\n' > "$tree/$plugin"
    printf '%s = os:getpid\n' "$@" >> "$tree/$plugin"
    find "$tree" -exec touch -d 2026-01-01 {} +
    dpkg-deb -Znone --root-owner-group --build "$tree" /srv/plug.deb >/dev/null
}
prepare() {
    plug 1 one
    dpkg --install /srv/plug.deb
}
names='from stevedore import ExtensionManager as Manager; print(*sorted(Manager("own").names()))'
ask() { as_one python3 -c "$names"; }
truth() { as_one env XDG_CACHE_HOME="$(as_one mktemp -d)" python3 -c "$names"; }
made() { seen /home/one/.cache/python-entrypoints/*; }
