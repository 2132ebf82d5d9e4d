'use strict';
'require baseclass';

/*
 * Messages of `mtbox explain` and the advice in /stats, listed here for translation. %s stands for a time stamp or a number.
 */
const MESSAGES = [
	_('TLS hello with a key that matches no user'),
	_('if this is one of your users, the link is outdated or mistyped: send the current one (mtbox access); otherwise it is a probe, which saw only the front'),
	_('TLS hello with a host that is in no secret'),
	_('usually a browser or a scanner; if this is one of your users, the link has an old host: send the current one'),
	_('the first bytes are not from a Telegram app'),
	_('a scanner or a browser; nothing to do'),
	_('the TLS hello is incomplete'),
	_('a port scan, or a network that drops large packets: try a smaller MTU or network.max-segment'),
	_('the key is correct, but the clocks of client and proxy differ too much'),
	_('set the clocks of the phone and of this machine (NTP), or raise tolerate-time-skewness'),
	_('the key is correct, but this TLS hello was used before, or comes from before the start of mtbox'),
	_('a third party, most likely a censor, records and replays connections; the app is not affected. Soon after a start: an app whose clock is slow, which gets in later; state-file makes this rarer'),
	_('the user has reached the fair share of connections'),
	_('raise throttle.max-connections or concurrency, or check whether the link is shared with others'),
	_('the user is disabled'),
	_('mtbox user enable NAME'),
	_('the limit of connections is reached'),
	_('raise concurrency and the limit of open files (ulimit -n), or find the users with most connections'),
	_('all places were taken: this connection was closed for a newer one'),
	_('a flood of connections, or too few places: raise concurrency and the limit of open files (ulimit -n)'),
	_('all places were taken, and this user had most: a session was closed for another'),
	_('check whether the link is shared with others, or raise concurrency and the limit of open files (ulimit -n)'),
	_('unauthenticated clients came faster than they may be connected to the front'),
	_('a flood of probes; to allow more, widen the range of local ports of the system'),
	_('this machine had no local port, descriptor or memory for a connection'),
	_('widen the range of local ports of the system, or raise the limit of open files (ulimit -n)'),
	_('the address is on the blocklist'),
	_('use a list without this network, or a corrected copy of the list'),
	_('the address is not on the allowlist'),
	_('add its network to a file in defense.allowlist.urls'),
	_('the PROXY protocol header is invalid or incomplete'),
	_('enable PROXY protocol version 1 or 2 on the load balancer, or disable proxy-protocol-listener'),
	_('a PROXY header came, but proxy-protocol-listener is off'),
	_('if a relay of yours sends it, set proxy-protocol-listener = true, and name the relay in proxy-protocol-trusted; otherwise it is a scanner'),
	_('a PROXY header came from an address that is not in proxy-protocol-trusted'),
	_('if a relay of yours sends it, add its address to proxy-protocol-trusted; otherwise it is a client that announces a false address, which saw only the front'),
	_('a second PROXY header came behind the first one'),
	_('of several relays in a row, each must read the header of the one before it; a single one must send one version only'),
	_('a session came without a PROXY header, or with one that names no address, so it counts as one of the relay'),
	_('enable PROXY protocol version 1 or 2 on the relay; if clients also connect directly, name the relays in proxy-protocol-trusted; without a relay, remove proxy-protocol-listener'),
	_('the key was correct, but the app sent no request for a data centre'),
	_('often a device on the path breaks the connection after the handshake: try another host in the secret, another port, or another network'),
	_('the key was correct, but the data after the handshake is invalid'),
	_('a device on the path changes the data, or the app is outdated: update the app'),
	_('the app requested an unknown data centre'),
	_('set allow-fallback-on-unknown-dc = true, or add the data centre to [telegram.dc-overrides]'),
	_('no address of the data centre answered'),
	_('check whether this machine reaches Telegram (mtbox doctor); if Telegram is blocked, set network.proxies; without IPv6, set prefer-ip = "only-ipv4"'),
	_('an upstream proxy does not work, or leads nowhere'),
	_('check whether it runs, whether user and password are correct, and whether it reaches Telegram (mtbox doctor, network.proxies)'),
	_('Telegram, or a device on the path, took the connection and sent no data'),
	_('your provider probably blocks Telegram: set network.proxies or another network.bind-device'),
	_('the host name of the front has no address'),
	_('check domain-fronting.host or the host in the secrets, and network.dns'),
	_('the host in the secret leads to this machine or into a private network'),
	_('if your web server is there, set domain-fronting.host to its name or address; otherwise the name server is wrong: check network.dns'),
	_('the front does not answer'),
	_('choose a web site that this machine reaches: a port without an answer reveals the proxy'),
	_('the front is this proxy itself, or leads back to it'),
	_('set domain-fronting.host and domain-fronting.port to the web server itself, and reload: a router in front of mtbox, or a name with its address, leads back'),
	_('no data was transferred for network.timeout.idle'),
	_('normal for apps in the background; if users complain, raise the timeout'),
	_('one side acknowledged no data for 30 seconds (5 seconds when memory is low)'),
	_('usually a phone that lost its network, or a way to Telegram that was cut; if there are many at once, raise memory.buffers'),
	_('no memory or no free slot was left for the connection'),
	_('raise memory.buffers and concurrency, or use a larger machine'),
	_('the user was removed or disabled, or has a new secret'),
	_('send the new link: mtbox access CONFIG --user NAME'),
	_('the user is disabled, see disabled-users'),
	_('never seen since the start: the link was not used, or the port is not reachable (firewall, port forwarding)'),
	_('not connected; last seen %s'),
	_('connected, one session'),
	_('connected, %s sessions'),
	_('%s TLS hellos had a key that matches no user: if this user sent one of them, the link is outdated'),
	_('the clock of this machine is not set, so client clocks are not checked'),
	_('the clocks of %s users differ in the same direction: the clock of this machine is probably ahead'),
	_('the clocks of %s users differ in the same direction: the clock of this machine is probably behind'),
	_('the clock of the phone is %s s ahead'),
	_('the clock of the phone is %s s behind'),
	_('data centre %s'),
	_('check whether each entry of network.proxies reaches Telegram (mtbox doctor), or add another one'),
	_('the name server fails, not the name: mtbox doctor examines it; let it run and answer this machine, or set network.dns to another one'),
	_('an address of the name in the secret does not lead to this machine, which a censor can see'),
	_('not every address of the name in the secret can be compared with this machine'),
	_('the name in the secret cannot be resolved'),
	_('the site does not answer at its IPv6 address: let the web server listen there, or remove the AAAA record'),
	_('the site does not offer X25519MLKEM768: clients behind such a site are blocked more often since June 2026, since their hello offers it; update its TLS library, or choose another site')
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
