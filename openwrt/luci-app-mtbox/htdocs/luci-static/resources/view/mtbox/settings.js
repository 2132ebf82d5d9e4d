'use strict';
'require view';
'require form';

/*
 * Settings of the section `main`. The name of an option is the path of the key in mtbox's config
 * with _ for . and -; an option that is not set has mtbox's own default.
 */

const DURATION = /^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$/;
const SIZE = /^[0-9]+(\.[0-9]+)?\s*(b|kb|kib|mb|mib|gb|gib)$/i;

// What a value has to look like: `pattern` fits, or `hint` is shown.
function like(pattern, hint) {
	return function(sid, value) {
		return value == '' || pattern.test(value) ? true : hint;
	};
}

function duration(o, sample) {
	o.placeholder = sample;
	o.validate = like(DURATION, _('A number and a unit, such as 30s, 5m or 1h.'));
}

function size(o, sample) {
	o.placeholder = sample;
	o.validate = like(SIZE, _('A number and a unit, such as 512kib or 16mib.'));
}

function general(s) {
	let o = s.taboption('general', form.Flag, 'enabled', _('Enabled'),
		_('Run the proxy, now and after each start of the router.'));
	o.default = o.disabled;
	o.rmempty = false;

	o = s.taboption('general', form.Value, 'port', _('Port'),
		_('Where clients connect. 443 arouses the least suspicion; if the web pages of the router listen there, move them or choose another one. The port is part of the links.'));
	o.datatype = 'port';
	o.default = '443';
	o.rmempty = false;

	o = s.taboption('general', form.Value, 'host', _('Site'),
		_('A web site that connections look like. It should be large, usual in your network and not blocked. It is part of a link when that is made; links that exist keep theirs.'));
	o.datatype = 'hostname';
	o.placeholder = 'www.google.com';

	o = s.taboption('general', form.Flag, 'open_port', _('Open the port'),
		_('Let people outside in: a firewall rule that is there for as long as the proxy runs.'));
	o.default = o.enabled;
	o.rmempty = false;

	o = s.taboption('general', form.DynamicList, 'bind_to', _('Listen on'),
		_('Addresses with ports instead of the port above, such as 192.168.1.1:443.'));
	o.datatype = 'ipaddrport(1)';
	o.optional = true;
}

function links(s) {
	let o = s.taboption('links', form.Value, 'public_ipv4', _('Public IPv4 address'),
		_('The address in the links. Set it if the router is behind another one, or if the links name a wrong address.'));
	o.datatype = 'ip4addr("nomask")';
	o.optional = true;

	o = s.taboption('links', form.Value, 'public_ipv6', _('Public IPv6 address'),
		_('As above, for links by IPv6.'));
	o.datatype = 'ip6addr("nomask")';
	o.optional = true;

	o = s.taboption('links', form.Value, 'network_public_ip_url', _('Who tells our address'),
		_('A page that is asked when somebody looks at links and no address is known. It learns that this router asks, nothing else.'));
	o.placeholder = 'https://ifconfig.co';
	o.optional = true;
}

function telegram(s) {
	let o = s.taboption('telegram', form.DynamicList, 'network_proxies', _('Upstream proxies'),
		_('SOCKS5 proxies on the way to Telegram, where a provider blocks it: socks5://user:password@host:1080. One that works is chosen.'));
	o.validate = like(/^socks5h?:\/\/\S+$/, _('Starts with socks5:// and has no blanks.'));
	o.optional = true;

	o = s.taboption('telegram', form.ListValue, 'prefer_ip', _('Addresses of Telegram'),
		_('Which ones to dial. Choose IPv4 only if the router has no working IPv6.'));
	o.value('', _('IPv6 first (default)'));
	o.value('prefer-ipv4', _('IPv4 first'));
	o.value('only-ipv6', _('IPv6 only'));
	o.value('only-ipv4', _('IPv4 only'));
	o.optional = true;

	o = s.taboption('telegram', form.Flag, 'auto_update', _('Keep the addresses fresh'),
		_('Fetch Telegram\'s list of addresses every hour. Rarely needed.'));

	o = s.taboption('telegram', form.Value, 'network_bind_device', _('Network device'),
		_('Send everything of the proxy through this device, such as a VPN.'));
	o.datatype = 'maxlength(15)';
	o.placeholder = 'wan';
	o.optional = true;

	o = s.taboption('telegram', form.Value, 'network_mark', _('Firewall mark'),
		_('Mark the proxy\'s own connections, for policy routing.'));
	o.datatype = 'min(1)';
	o.optional = true;

	o = s.taboption('telegram', form.Value, 'network_dns', _('Name server'),
		_('Instead of the router\'s own: udp://1.1.1.1, tls://host or https://host/path.'));
	o.optional = true;
}

function disguise(s) {
	let o = s.taboption('disguise', form.Value, 'domain_fronting_host', _('Where strangers go'),
		_('Who comes without a valid link is led to the site in the links; or to this host, such as a web server of your own.'));
	o.datatype = 'host';
	o.optional = true;

	o = s.taboption('disguise', form.Value, 'domain_fronting_port', _('Port of that site'));
	o.datatype = 'port';
	o.placeholder = '443';
	o.optional = true;

	o = s.taboption('disguise', form.Flag, 'domain_fronting_mimic_latency', _('Answer as slowly as the site'),
		_('Harder to tell from the real site; connecting takes a moment longer.'));

	o = s.taboption('disguise', form.Flag, 'defense_doppelganger_enabled', _('Imitate the pace of a site'),
		_('Downloads begin in records of the sizes that web servers send.'));
	o.default = o.enabled;

	o = s.taboption('disguise', form.ListValue, 'defense_doppelganger_mode', _('How long'),
		_('The whole download is safer and limits it to 2.4 MB/s.'));
	o.value('', _('The first records (default)'));
	o.value('always', _('The whole download'));
	o.optional = true;
	o.retain = true;
	o.depends('defense_doppelganger_enabled', '1');

	o = s.taboption('disguise', form.Flag, 'defense_anti_replay_enabled', _('Refuse recorded connections'),
		_('Nobody can use a connection again that was recorded on the way.'));
	o.default = o.enabled;

	o = s.taboption('disguise', form.Value, 'tolerate_time_skewness', _('Clock difference'),
		_('How far a phone\'s clock may be off.'));
	duration(o, '2m');
	o.optional = true;

	o = s.taboption('disguise', form.Value, 'network_max_segment', _('Largest segment'),
		_('Clients send their first bytes in pieces of this size, which some filters cannot read. It costs speed: leave it empty unless connections are cut.'));
	o.datatype = 'range(88,32767)';
	o.optional = true;
}

function limits(s) {
	let o = s.taboption('limits', form.Value, 'throttle_max_connections', _('Connections of all users'),
		_('Over this number, nobody gets more than a fair share. An app has up to ten connections. 0 = no such limit.'));
	o.datatype = 'uinteger';
	o.placeholder = '0';
	o.optional = true;

	o = s.taboption('limits', form.Value, 'concurrency', _('Connections altogether'),
		_('Strangers included; more are turned away.'));
	o.datatype = 'min(1)';
	o.placeholder = '4096';
	o.optional = true;

	o = s.taboption('limits', form.Value, 'memory_buffers', _('Memory for buffers'),
		_('For data that a slow peer has not taken yet. By itself it is a sixteenth of the memory, at most 64 MiB.'));
	size(o, '16mib');
	o.optional = true;

	o = s.taboption('limits', form.Value, 'network_timeout_idle', _('Idle time'),
		_('Connections without a byte for this long are ended.'));
	duration(o, '5m');
	o.optional = true;

	o = s.taboption('limits', form.Value, 'state_file', _('Keep totals'),
		_('Traffic of each user over restarts. The file is on the flash, which wears out by writing; without it, totals end with the program.'));
	o.value('', _('No'));
	o.value('/etc/mtbox/state', _('Yes, in /etc/mtbox/state'));
	o.validate = like(/^\/\S*[^\/]$/, _('A path that starts with /.'));
	o.optional = true;

	o = s.taboption('limits', form.Value, 'state_interval', _('Write them every'),
		_('Longer intervals spare the flash.'));
	duration(o, '10m');
	o.optional = true;
}

function list(s, name, title, text) {
	let o = s.taboption('lists', form.Flag, 'defense_' + name + '_enabled', title, text);

	o = s.taboption('lists', form.DynamicList, 'defense_' + name + '_urls', _('Files or addresses'),
		_('Lists in the form of FireHOL: one network per line. Paths on the router, or web addresses.'));
	o.placeholder = 'https://iplists.firehol.org/files/firehol_level1.netset';
	o.validate = like(/^(\/|https?:\/\/)\S+$/, _('A path that starts with /, or a web address.'));
	o.retain = true;
	o.depends('defense_' + name + '_enabled', '1');

	o = s.taboption('lists', form.Value, 'defense_' + name + '_update_each', _('Read again every'));
	duration(o, '6h');
	o.optional = true;
	o.retain = true;
	o.depends('defense_' + name + '_enabled', '1');
}

function lists(s) {
	list(s, 'blocklist', _('Blocklist'), _('Close connections from the networks on these lists.'));
	list(s, 'allowlist', _('Allowlist'), _('Close connections from all networks that are not on these lists.'));

	const o = s.taboption('lists', form.Value, 'defense_cache_dir', _('Copies of lists'),
		_('A folder for what was fetched, so that the router starts with it while the network is down. Below /etc it is on the flash.'));
	o.placeholder = '/etc/mtbox';
	o.validate = like(/^\/\S*$/, _('A path that starts with /.'));
	o.optional = true;
}

function log(s) {
	let o = s.taboption('log', form.ListValue, 'log_level', _('What to log'),
		_('Every connection\'s story fills the log of the router quickly.'));
	o.value('error', _('Errors'));
	o.value('warn', _('Warnings and errors'));
	o.value('', _('Usual events (default)'));
	o.value('debug', _('Every connection\'s story'));
	o.optional = true;

	o = s.taboption('log', form.Flag, 'log_addresses', _('Whole addresses'),
		_('Log the addresses of clients as they are. Otherwise only the network is told.'));
}

function metrics(s) {
	let o = s.taboption('metrics', form.Flag, 'stats_prometheus_enabled', _('Prometheus'),
		_('Serve metrics to Prometheus. Nothing asks who reads them: keep the address private.'));

	o = s.taboption('metrics', form.Value, 'stats_prometheus_bind_to', _('Listen on'));
	o.placeholder = '127.0.0.1:3129';
	o.rmempty = false;
	o.retain = true;
	o.depends('stats_prometheus_enabled', '1');

	o = s.taboption('metrics', form.Flag, 'stats_prometheus_per_user', _('By user'),
		_('Tell names and traffic of the users too.'));
	o.retain = true;
	o.depends('stats_prometheus_enabled', '1');

	o = s.taboption('metrics', form.Flag, 'stats_statsd_enabled', _('StatsD'),
		_('Send metrics to a StatsD server.'));

	o = s.taboption('metrics', form.Value, 'stats_statsd_address', _('Server'));
	o.placeholder = '127.0.0.1:8125';
	o.rmempty = false;
	o.retain = true;
	o.depends('stats_statsd_enabled', '1');

	o = s.taboption('metrics', form.ListValue, 'stats_statsd_tag_format', _('Form of tags'));
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
			_('Connections go on when settings are applied. What is left empty has the default of the program.'));
		const s = m.section(form.NamedSection, 'main', 'mtbox');

		s.tab('general', _('General'));
		s.tab('links', _('Links'));
		s.tab('telegram', _('Way to Telegram'));
		s.tab('disguise', _('Disguise'));
		s.tab('limits', _('Limits'));
		s.tab('lists', _('Lists'));
		s.tab('log', _('Log'));
		s.tab('metrics', _('Metrics'));
		[ general, links, telegram, disguise, limits, lists, log, metrics ].forEach(function(fill) {
			fill(s);
		});
		return m.render();
	}
});
