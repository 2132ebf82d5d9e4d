'use strict';
'require baseclass';

/*
 * Messages of `mtbox explain`, listed here for translation. %s stands for a time stamp or a number.
 */
const MESSAGES = [
	_('a hello for our site with a key that is nobody\'s'),
	_('if it is one of your people, the link is an old or a mistyped one: send the present one (mtbox access); otherwise it is a prober, who saw the site'),
	_('a TLS hello for a site that no secret names'),
	_('usually a visitor of the site or a scanner; a person of yours would have a link with an old host: send the present one'),
	_('something that no Telegram app says'),
	_('a scanner or a browser; nothing to do'),
	_('a connection that never said its whole hello'),
	_('a port scan, or a network that swallows large packets: try a smaller MTU or network.max-segment'),
	_('the key is right, but the clocks differ too much'),
	_('set the clock of the phone and of this machine (NTP), or raise tolerate-time-skewness'),
	_('the key is right, but this very hello was used before'),
	_('somebody records and repeats the connection, most likely a censor; the app itself is not hindered'),
	_('the user has as many connections as the fair share allows'),
	_('raise throttle.max-connections, or ask whether the link is shared with others'),
	_('the user is switched off'),
	_('mtbox user enable NAME'),
	_('the connection found no place left'),
	_('raise concurrency and the limit of open files (ulimit -n), or see who has so many'),
	_('the address is on the blocklist'),
	_('use a list without this network, or put a corrected copy in its place'),
	_('the address is not on the allowlist'),
	_('add its network to a file in defense.allowlist.urls'),
	_('the PROXY protocol header was broken or did not end'),
	_('let the balancer send PROXY protocol 1 or 2, or turn proxy-protocol-listener off'),
	_('the key was right, but the app never got as far as asking for Telegram'),
	_('often a box on the way that breaks the connection after the handshake: try another host in the secret, another port, or another network'),
	_('the key was right, but what followed was no Telegram'),
	_('something on the way changes the bytes, or the app is very old: update it'),
	_('the app asked for a data centre that does not exist'),
	_('set allow-fallback-on-unknown-dc = true, or name it in [telegram.dc-overrides]'),
	_('no address of the data centre answered'),
	_('see whether this machine reaches Telegram (mtbox doctor); where it is blocked, set network.proxies; without IPv6, prefer-ip = "only-ipv4"'),
	_('no proxy on the way to Telegram worked'),
	_('see whether the proxy runs and whether user and password are right (mtbox doctor, network.proxies)'),
	_('Telegram, or somebody in front of it, ended the session without a byte'),
	_('a provider that blocks Telegram does this: set network.proxies, or another network.bind-device'),
	_('the site for strangers has no address'),
	_('check domain-fronting.host or the host in the secrets, and network.dns'),
	_('the site for strangers does not answer'),
	_('name a site that this machine reaches: a silent port gives the proxy away'),
	_('the site for strangers is this proxy itself'),
	_('set domain-fronting.host and port to the web server behind it'),
	_('no byte moved for as long as network.timeout.idle'),
	_('usual for apps in the background; if people complain, raise it'),
	_('one side took no bytes for 30 seconds, 5 when memory is short'),
	_('a phone that lost its network; with many of them at once, raise memory.buffers'),
	_('there was no memory or no place left for the connection'),
	_('raise memory.buffers and concurrency, or use a larger machine'),
	_('the user was removed, switched off, or given another secret'),
	_('send the new link: mtbox access CONFIG --user NAME'),
	_('the user is switched off, see disabled-users'),
	_('never seen since the start: the link was not used, or the port does not arrive here (firewall, port forwarding)'),
	_('not connected now; last seen %s'),
	_('connected now, with one session'),
	_('connected now, with %s sessions'),
	_('%s hellos came with a key that is nobody\'s: if one of them is this user\'s, the link is an old one'),
	_('the clock of this machine is not set, so clocks are not compared'),
	_('the clocks of %s users differ likewise: most likely this machine\'s is ahead'),
	_('the clocks of %s users differ likewise: most likely this machine\'s is behind'),
	_('the phone is %s s ahead of this machine'),
	_('the phone is %s s behind of this machine'),
	_('data centre %s')
];

return baseclass.extend({
	messages: MESSAGES,

	/* A message in the language of the pages, unchanged if there is no translation. */
	translate: function(text) {
		text = String(text != null ? text : '');
		if (_(text) != text)
			return _(text);
		const values = [];
		const pattern = text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z|\d+/g, function(value) {
			values.push(value);
			return '%s';
		});
		const translated = _(pattern);
		return translated != pattern
			? translated.replace(/%s/g, function() { return values.shift(); })
			: text;
	}
});
