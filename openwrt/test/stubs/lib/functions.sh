# A stub for OpenWrt's /lib/functions.sh: the functions that our scripts and the default package
# scripts use, with the same behaviour.

_sections=

# The keywords of UCI files, as functions: the shell executes files in /etc/config.
config() {
	_count=$((${_count:-0} + 1))
	_section=${2:-cfg$_count}
	_sections="$_sections $_section"
	eval "_type_$_section=\$1"
}

option() {
	eval "_value_${_section}_$1=\$2"
}

list() {
	eval "_value_${_section}_$1=\"\${_value_${_section}_$1:+\$_value_${_section}_$1 }\$2\""
}

config_load() {
	_sections=
	_count=0
	[ ! -f "/etc/config/$1" ] || . "/etc/config/$1"
	# Uncommitted changes of `uci set`.
	[ ! -f "/tmp/.uci/$1" ] || . "/tmp/.uci/$1"
}

# Arguments: variable, section, option, default (optional).
config_get() {
	eval "$1=\${_value_$2_$3:-\$4}"
}

config_get_bool() {
	config_get "$@"
	eval "set -- \"\$1\" \"\$4\" \"\$$1\""
	case $3 in
	1 | on | true | yes | enabled) eval "$1=1" ;;
	0 | off | false | no | disabled) eval "$1=0" ;;
	*) eval "$1=\$2" ;;
	esac
}

# Arguments: function, type (optional), arguments for the function.
config_foreach() {
	local function=$1 type=$2 section found
	shift 2
	for section in $_sections; do
		eval "found=\$_type_$section"
		[ -n "$type" ] && [ "$type" != "$found" ] || "$function" "$section" "$@"
	done
}

# Prints the files of the package, from the list of opkg or apk.
_list() {
	cat "$root/usr/lib/opkg/info/$pkgname.list" "$root/lib/apk/packages/$pkgname.list" 2>/dev/null
}

_users() {
	sed -n 's/^Require-User: *//p' "$root/usr/lib/opkg/info/$pkgname.control" 2>/dev/null
	cat "$root/lib/apk/packages/$pkgname.rusers" 2>/dev/null
}

# An entry is USER=UID:GROUP=GID, for example mtbox=5443:mtbox=5443.
add_group_and_user() {
	local user
	for user in $(_users); do
		local name=${user%%=*} numbers
		numbers=$(echo "$user" | sed 's/[^=]*=\([0-9]*\):[^=]*=\([0-9]*\)/\1:\2/')
		grep -q "^$name:" "$root/etc/group" || echo "$name:x:${numbers#*:}:" >>"$root/etc/group"
		grep -q "^$name:" "$root/etc/passwd" ||
			echo "$name:x:$numbers:$name:/var/run/$name:/bin/false" >>"$root/etc/passwd"
	done
}

default_postinst() {
	root=$IPKG_INSTROOT
	pkgname=${pkgname:-$(basename "${1%.*}")}
	local file result=0
	[ ! -e "$root/usr/lib/opkg/info/$pkgname.list" ] || add_group_and_user
	if [ -z "$root" ]; then
		for file in $(_list | grep ^/etc/uci-defaults/); do
			(cd /etc/uci-defaults && . "$file") && rm -f "$file"
		done
	fi
	if [ -f "$root/usr/lib/opkg/info/$pkgname.postinst-pkg" ]; then
		(. "$root/usr/lib/opkg/info/$pkgname.postinst-pkg")
		result=$?
	fi
	for file in $(_list | grep ^/etc/init.d/); do
		if [ -n "$root" ]; then
			/bin/sh "$root/etc/rc.common" "$root$file" enable
		else
			[ "$PKG_UPGRADE" = 1 ] || "$file" enable
			"$file" start
		fi
	done
	return "$result"
}

default_prerm() {
	root=$IPKG_INSTROOT
	pkgname=${pkgname:-$(basename "${1%.*}")}
	local file
	for file in $(_list | grep ^/etc/init.d/); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" disable
		"$file" stop
	done
}
