#!/usr/bin/perl
# What `dh --with modstamp` adds. After dh_install, whose files a profile of the package's own may be among.
use strict;
use warnings;

use Debian::Debhelper::Dh_Lib;

insert_after('dh_install', 'dh_modstamp');

1;
