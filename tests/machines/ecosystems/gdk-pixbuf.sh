# gdk-pixbuf's list of loaders, which a picture in SVG needs.
modules=/usr/lib/x86_64-linux-gnu/gdk-pixbuf-2.0/2.10.0/loaders
case $(cat /etc/debian_version) in
12.*) plugin=$modules/libpixbufloader-svg.so ;;
*) plugin=$modules/libpixbufloader_svg.so ;;
esac
query=/usr/lib/x86_64-linux-gnu/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders
version() { dpkg-query -Wf '${Version}' libgdk-pixbuf-2.0-0; }
prepare() {
    echo '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>' > /srv/picture.svg
    counted $query
}
ask() { gdk-pixbuf-csource /srv/picture.svg 2>&1 | head --lines=1; }
truth() {
    list=$(mktemp)
    $query.real > "$list" 2>/dev/null
    GDK_PIXBUF_MODULE_FILE=$list ask
}
made() { runs; }
