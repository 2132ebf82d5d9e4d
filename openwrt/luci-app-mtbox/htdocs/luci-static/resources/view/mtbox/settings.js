'use strict';
'require view';
'require form';

/*
 * Settings of the UCI section `main`. An option is named after its key in mtbox.toml, with _ for
 * . and -. An option that is not set has the default value of mtbox.
 */

const DURATION = /^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$/;
const RATE = /^[0-9]+(\.[0-9]+)?\s*(k|m|g)?bit$/i;
const SIZE = /^[0-9]+(\.[0-9]+)?\s*(b|kb|kib|mb|mib|gb|gib)$/i;

// Returns a validator: an empty value or a match of `pattern` is valid, else `hint` is shown.
function matches(pattern, hint) {
	return function(sid, value) {
		return value == '' || pattern.test(value) ? true : hint;
	};
}

function duration(o, sample) {
	o.placeholder = sample;
	o.validate = matches(DURATION, _('Enter a number and a unit, for example 30s, 5m or 1h.'));
}

function size(o, sample) {
	o.placeholder = sample;
	o.validate = matches(SIZE, _('Enter a number and a unit, for example 512kib or 16mib.'));
}

function general(s) {
	let o = s.taboption('general', form.Flag, 'enabled', _('Enabled'),
		_('Start the proxy now and at every boot.'));
	o.default = o.disabled;
	o.rmempty = false;

	o = s.taboption('general', form.Value, 'port', _('Port'),
		_('TCP port for client connections. Port 443 attracts the least attention. If LuCI uses port 443, move LuCI or choose another port. The port is part of every link.'));
	o.datatype = 'port';
	o.default = '443';
	o.rmempty = false;

	o = s.taboption('general', form.Value, 'host', _('Web site'),
		_('Client connections look like HTTPS connections to this web site. Choose a large web site that is common in your network and not blocked. Its name becomes part of each new link; existing links do not change.'));
	o.datatype = 'hostname';
	o.placeholder = 'www.google.com';

	o = s.taboption('general', form.Flag, 'open_port', _('Open port in firewall'),
		_('Accept connections from WAN on this port while the service runs.'));
	o.default = o.enabled;
	o.rmempty = false;

	o = s.taboption('general', form.DynamicList, 'bind_to', _('Listen addresses'),
		_('Addresses with ports, for example 192.168.1.1:443. They replace the port above.'));
	o.datatype = 'ipaddrport(1)';
	o.optional = true;
}

function links(s) {
	let o = s.taboption('links', form.Value, 'public_host', _('Public host name'),
		_('Name in links instead of an address, for example a dynamic DNS name.'));
	o.datatype = 'host';
	o.placeholder = 'home.example.com';
	o.optional = true;

	o = s.taboption('links', form.Value, 'public_port', _('Public port'),
		_('Port in links. Set it if clients connect to another port than the one above, for example behind a port redirect.'));
	o.datatype = 'port';
	o.optional = true;

	o = s.taboption('links', form.Value, 'public_ipv4', _('Public IPv4 address'),
		_('IPv4 address in links. Set it if the router is behind another router or if the links contain a wrong address.'));
	o.datatype = 'ip4addr("nomask")';
	o.optional = true;

	o = s.taboption('links', form.Value, 'public_ipv6', _('Public IPv6 address'),
		_('IPv6 address in links.'));
	o.datatype = 'ip6addr("nomask")';
	o.optional = true;

	o = s.taboption('links', form.Value, 'network_public_ip_url', _('Public address service'),
		_('URL that returns the public address of the router. mtbox requests it when links are shown and no address is set. The request contains no information about users.'));
	o.placeholder = 'https://ifconfig.co';
	o.optional = true;
}

function telegram(s) {
	let o = s.taboption('telegram', form.DynamicList, 'network_proxies', _('Upstream proxies'),
		_('SOCKS5 proxies for connections to Telegram, for example socks5://user:password@host:1080. Use them if your provider blocks Telegram. mtbox selects one that works.'));
	o.validate = matches(/^socks5h?:\/\/\S+$/, _('Must start with socks5:// and contain no spaces.'));
	o.optional = true;

	o = s.taboption('telegram', form.ListValue, 'prefer_ip', _('IP version'),
		_('IP version for connections to Telegram. Choose "IPv4 only" if IPv6 does not work on the router.'));
	o.value('', _('Prefer IPv6 (default)'));
	o.value('prefer-ipv4', _('Prefer IPv4'));
	o.value('only-ipv6', _('IPv6 only'));
	o.value('only-ipv4', _('IPv4 only'));
	o.optional = true;

	o = s.taboption('telegram', form.Flag, 'auto_update', _('Update addresses'),
		_('Download the list of Telegram addresses every hour. Rarely needed.'));

	o = s.taboption('telegram', form.Value, 'network_bind_device', _('Network device'),
		_('Send all outgoing connections of the proxy through this device, for example a VPN interface.'));
	o.datatype = 'maxlength(15)';
	o.placeholder = 'wan';
	o.optional = true;

	o = s.taboption('telegram', form.Value, 'network_mark', _('Firewall mark'),
		_('Set this mark on outgoing connections of the proxy, for policy routing.'));
	o.datatype = 'min(1)';
	o.optional = true;

	o = s.taboption('telegram', form.Value, 'network_dns', _('DNS server'),
		_('Replaces the DNS server of the router. Examples: udp://1.1.1.1, tls://host, https://host/path.'));
	o.optional = true;
}

function disguise(s) {
	let o = s.taboption('disguise', form.Value, 'domain_fronting_host', _('Fronting host'),
		_('Clients without a valid link are forwarded to the web site in the links, or to this host if it is set. It can be your own web server.'));
	o.datatype = 'host';
	o.optional = true;

	o = s.taboption('disguise', form.Value, 'domain_fronting_port', _('Fronting port'));
	o.datatype = 'port';
	o.placeholder = '443';
	o.optional = true;

	o = s.taboption('disguise', form.Flag, 'domain_fronting_mimic_latency', _('Imitate response time'),
		_('Delay the handshake by the response time of the web site. The proxy is harder to detect, but connecting takes longer.'));

	o = s.taboption('disguise', form.Flag, 'defense_doppelganger_enabled', _('Traffic shaping'),
		_('Send downloads with the timing and the TLS record sizes of a web site.'));
	o.default = o.enabled;

	o = s.taboption('disguise', form.ListValue, 'defense_doppelganger_mode', _('Shaped part'),
		_('Shaping the whole download is harder to detect, but limits the speed to 2.4 MB/s.'));
	o.value('', _('First records (default)'));
	o.value('always', _('Whole download'));
	o.optional = true;
	o.retain = true;
	o.depends('defense_doppelganger_enabled', '1');

	o = s.taboption('disguise', form.Flag, 'defense_anti_replay_enabled', _('Replay protection'),
		_('Refuse a handshake that was used before.'));
	o.default = o.enabled;

	o = s.taboption('disguise', form.Value, 'tolerate_time_skewness', _('Clock tolerance'),
		_('Largest accepted difference between the clocks of client and router.'));
	duration(o, '2m');
	o.optional = true;

	o = s.taboption('disguise', form.Value, 'network_max_segment', _('Maximum segment size'),
		_('Clients send their data in TCP segments of at most this size. Some filters cannot read a handshake that is split. Small segments reduce the speed. Leave the field empty unless connections are blocked.'));
	o.datatype = 'range(88,32767)';
	o.optional = true;
}

function limits(s) {
	let o = s.taboption('limits', form.Value, 'throttle_max_connections', _('Fair-share limit'),
		_('Above this total number of connections, each user gets at most a fair share. An app opens up to ten connections. 0 disables the limit.'));
	o.datatype = 'uinteger';
	o.placeholder = '0';
	o.optional = true;

	o = s.taboption('limits', form.Value, 'throttle_rate', _('Rate limit'),
		_('Largest rate of all connections together, shared equally by the users. Set a little less than the upload rate of your line, so that other devices stay responsive. At least 256kbit.'));
	o.placeholder = '80mbit';
	o.validate = matches(RATE, _('Enter a number and a unit, for example 800kbit or 80mbit.'));
	o.optional = true;

	o = s.taboption('limits', form.Value, 'concurrency', _('Maximum connections'),
		_('Largest number of simultaneous connections, including unauthenticated clients. Further connections are refused.'));
	o.datatype = 'min(1)';
	o.placeholder = '4096';
	o.optional = true;

	o = s.taboption('limits', form.Value, 'memory_buffers', _('Buffer memory'),
		_('Largest amount of memory for data that waits to be sent. Default: one sixteenth of RAM, at most 64 MiB.'));
	size(o, '16mib');
	o.optional = true;

	o = s.taboption('limits', form.Value, 'network_timeout_idle', _('Idle timeout'),
		_('Close a connection that transfers no data for this time.'));
	duration(o, '5m');
	o.optional = true;

	o = s.taboption('limits', form.Value, 'state_file', _('Totals file'),
		_('Keeps the traffic totals of each user across restarts. Writing wears out flash memory. Without this file, totals are lost when the service stops.'));
	o.value('', _('Do not save'));
	o.value('/etc/mtbox/state');
	o.validate = matches(/^\/\S*[^\/]$/, _('Enter an absolute path.'));
	o.optional = true;

	o = s.taboption('limits', form.Value, 'state_interval', _('Save interval'),
		_('A longer interval reduces flash wear.'));
	duration(o, '10m');
	o.optional = true;
}

function list(s, name, title, text) {
	let o = s.taboption('lists', form.Flag, 'defense_' + name + '_enabled', title, text);

	o = s.taboption('lists', form.DynamicList, 'defense_' + name + '_urls', _('Sources'),
		_('Lists in FireHOL format, one network per line. Enter file paths on the router or URLs.'));
	o.placeholder = 'https://iplists.firehol.org/files/firehol_level1.netset';
	o.validate = matches(/^(\/|https?:\/\/)\S+$/, _('Enter an absolute path or a URL.'));
	o.retain = true;
	o.depends('defense_' + name + '_enabled', '1');

	o = s.taboption('lists', form.Value, 'defense_' + name + '_update_each', _('Update interval'));
	duration(o, '6h');
	o.optional = true;
	o.retain = true;
	o.depends('defense_' + name + '_enabled', '1');
}

function lists(s) {
	list(s, 'blocklist', _('Blocklist'), _('Close connections from networks in these lists.'));
	list(s, 'allowlist', _('Allowlist'), _('Close connections from networks that are not in these lists.'));

	const o = s.taboption('lists', form.Value, 'defense_cache_dir', _('List cache'),
		_('Directory for downloaded lists. mtbox uses these copies when it starts without network access. A directory below /etc is on flash memory.'));
	o.placeholder = '/etc/mtbox';
	o.validate = matches(/^\/\S*$/, _('Enter an absolute path.'));
	o.optional = true;
}

function log(s) {
	let o = s.taboption('log', form.ListValue, 'log_level', _('Log level'),
		_('The debug level logs every connection and fills the system log quickly.'));
	o.value('error', _('Errors'));
	o.value('warn', _('Warnings and errors'));
	o.value('', _('Info (default)'));
	o.value('debug', _('Debug'));
	o.optional = true;

	o = s.taboption('log', form.Flag, 'log_addresses', _('Full addresses'),
		_('Log full client addresses. By default, only the network is logged.'));
}

function metrics(s) {
	let o = s.taboption('metrics', form.Flag, 'stats_prometheus_enabled', _('Prometheus'),
		_('Serve metrics for Prometheus. There is no authentication: keep the address private.'));

	o = s.taboption('metrics', form.Value, 'stats_prometheus_bind_to', _('Listen address'));
	o.placeholder = '127.0.0.1:3129';
	o.rmempty = false;
	o.retain = true;
	o.depends('stats_prometheus_enabled', '1');

	o = s.taboption('metrics', form.Flag, 'stats_prometheus_per_user', _('Per-user metrics'),
		_('Include the names and the traffic of users.'));
	o.retain = true;
	o.depends('stats_prometheus_enabled', '1');

	o = s.taboption('metrics', form.Flag, 'stats_statsd_enabled', _('StatsD'),
		_('Send metrics to a StatsD server.'));

	o = s.taboption('metrics', form.Value, 'stats_statsd_address', _('Server'));
	o.placeholder = '127.0.0.1:8125';
	o.rmempty = false;
	o.retain = true;
	o.depends('stats_statsd_enabled', '1');

	o = s.taboption('metrics', form.ListValue, 'stats_statsd_tag_format', _('Tag format'));
	o.value('', _('Datadog (default)'));
	o.value('influxdb', 'InfluxDB');
	o.value('graphite', 'Graphite');
	o.optional = true;
	o.retain = true;
	o.depends('stats_statsd_enabled', '1');
}

return view.extend({
	render: function() {
		const m = new form.Map('mtbox', _('mtbox: Settings'),
			_('Applying settings does not close connections. Empty fields use the default values.'));
		const s = m.section(form.NamedSection, 'main', 'mtbox');

		s.tab('general', _('General'));
		s.tab('links', _('Links'));
		s.tab('telegram', _('Outgoing connections'));
		s.tab('disguise', _('Disguise'));
		s.tab('limits', _('Limits'));
		s.tab('lists', _('IP lists'));
		s.tab('log', _('Log'));
		s.tab('metrics', _('Metrics'));
		[ general, links, telegram, disguise, limits, lists, log, metrics ].forEach(function(fill) {
			fill(s);
		});
		return m.render();
	}
});
