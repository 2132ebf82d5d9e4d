'use strict';
'require view';
'require poll';
'require uci';
'require dom';
'require mtbox.tools as tools';
'require mtbox.messages as messages';

/* Service status, users with their traffic, and refused connections with their causes. */

const REFRESH_SECONDS = 5;

function statusRow(title, value) {
	return E('tr', { 'class': 'tr' }, [
		E('td', { 'class': 'td left', 'width': '33%' }, [ title ]),
		E('td', { 'class': 'td left' }, Array.isArray(value) ? value : [ value ])
	]);
}

function pageLink(name, title) {
	return E('a', { 'href': L.url('admin/services/mtbox', name) }, [ title ]);
}

// `state` of an upstream proxy in /stats is a circuit breaker state.
function proxyState(state) {
	return { 'closed': _('available'), 'open': _('unavailable'), 'half-open': _('retrying') }[state] || state;
}

// Why the service does not run; checks the most likely reason first.
function stopReasons(status) {
	if (uci.get('mtbox', 'main', 'enabled') != '1')
		return [ E('p', {}, [
			_('The service is disabled.'), ' ', pageLink('settings', _('Enable it in the settings.'))
		]) ];
	if (!uci.sections('mtbox', 'user').length)
		return [ E('p', {}, [ _('There are no users.'), ' ', pageLink('users', _('Add a user.')) ]) ];
	if (status.errors)
		return [ tools.warnings(status.errors) ];
	if (status.problems.length)
		return [ tools.warnings(status.problems) ];
	if (!status.boot)
		return [ E('p', {}, [
			_('The service does not start at boot.'), ' ',
			E('a', { 'href': L.url('admin/system/startup') }, [ _('Enable it on the Startup page.') ])
		]) ];
	return [ E('p', {}, [ _('The service stopped or failed to start.'), ' ', pageLink('log', _('See the log.')) ]) ];
}

// A reload with an invalid configuration keeps the old one, so the page has to show the errors.
function configErrors(status) {
	return status.problems && status.problems.length ? [
		E('p', {}, [ _('The configuration has errors. The service keeps running with the previous configuration:') ]),
		tools.warnings(status.problems)
	] : [];
}

function statusTable(isRunning, status, stats) {
	const version = status.version ? status.version[0] : '?';
	const rows = [
		statusRow(_('Status'), isRunning
			? [ E('span', { 'class': 'label success', 'id': 'mtbox-state' }, [ _('running') ]) ]
				.concat(configErrors(status))
			: [ E('span', { 'class': 'label warning', 'id': 'mtbox-state' }, [ _('not running') ]) ]
				.concat(stopReasons(status))),
		statusRow(_('Version'), version)
	];
	if (isRunning && stats.users) {
		const ports = uci.get('mtbox', 'main', 'bind_to') || uci.get('mtbox', 'main', 'port');
		rows.push(
			statusRow(_('Uptime'), tools.duration(stats.uptime_seconds)),
			statusRow(_('Port'), [].concat(ports || '?').join(', ')),
			statusRow(_('Connections'), String(stats.total_connections)));
		(stats.proxies || []).forEach(function(proxy) {
			rows.push(statusRow(_('Upstream proxy'), [ proxy.address, ': ', proxyState(proxy.state) ]
				.concat(proxy.last_error ? [ ' (', proxy.last_error, ')' ] : [])));
		});
		(stats.advice || []).forEach(function(advice) {
			rows.push(statusRow(_('Advice'), [ advice.host, ': ', messages.translate(advice.what) ]
				.concat(advice.detail ? [ ' (', advice.detail, ')' ] : [])));
		});
		Object.keys(stats.lists || {}).forEach(function(name) {
			const list = stats.lists[name];
			rows.push(statusRow(name == 'blocklist' ? _('Blocklist') : _('Allowlist'),
				_('%d entries, %d connections refused').format(list.entries, list.refused)));
		});
	}
	return E('table', { 'class': 'table' }, rows);
}

function userTableHead(hasTotals) {
	return E('tr', { 'class': 'tr table-titles' }, [
		_('User'), _('Connections'), _('Upload'), _('Download')
	].concat(hasTotals ? [ _('Total upload'), _('Total download') ] : []).concat([
		_('Last seen'), _('Refused'), ''
	]).map(function(title) { return E('th', { 'class': 'th' }, [ title ]); }));
}

function cell(title, children) {
	return E('td', { 'class': 'td', 'data-title': title }, children);
}

function userRow(name, user, hasTotals, now) {
	const traffic = [ [ _('Upload'), user.bytes_in ], [ _('Download'), user.bytes_out ] ];
	if (hasTotals)
		traffic.push([ _('Total upload'), user.total_bytes_in ],
			[ _('Total download'), user.total_bytes_out ]);
	return E('tr', { 'class': 'tr', 'data-user': name }, [
		cell(_('User'), user.disabled
			? [ name, ' ', E('span', { 'class': 'label' }, [ _('disabled') ]) ] : [ name ]),
		cell(_('Connections'), [ String(user.connections) ])
	].concat(traffic.map(function(pair) {
		return cell(pair[0], [ tools.bytes(pair[1] || 0) ]);
	})).concat([
		cell(_('Last seen'), [ tools.ago(user.last_seen, now) ]),
		cell(_('Refused'), [
			String(user.refused || 0), ' ',
			tools.button('neutral', _('Details'), function() { return showDetails(name); })
		]),
		E('td', { 'class': 'td cbi-section-actions' }, [
			tools.button('action', _('Link'), function() { return tools.showLinks(name); })
		])
	]));
}

function userTable(stats) {
	// Router time: the clock of the browser may differ.
	const now = Date.parse(stats.started_at) + stats.uptime_seconds * 1000;
	const names = Object.keys(stats.users);
	const hasTotals = names.some(function(name) { return stats.users[name].total_bytes_in != null; });
	return E('table', { 'class': 'table', 'id': 'mtbox-users' }, [ userTableHead(hasTotals) ]
		.concat(names.map(function(name) {
			return userRow(name, stats.users[name], hasTotals, now);
		})));
}

function refusalTable(entries) {
	if (!entries.length)
		return E('p', {}, [ _('No connections were refused since the service started.') ]);
	return E('table', { 'class': 'table' }, [ E('tr', { 'class': 'tr table-titles' }, [
		_('Count'), _('Last time'), _('Cause'), _('What to do')
	].map(function(title) { return E('th', { 'class': 'th' }, [ title ]); })) ]
		.concat(entries.map(function(entry) {
			return E('tr', { 'class': 'tr', 'data-cause': entry.cause }, [
				cell(_('Count'), [ String(entry.count) ]),
				cell(_('Last time'), [ new Date(entry.last).toLocaleString() ]),
				cell(_('Cause'), [ messages.translate(entry.what) ]
					.concat(entry.detail ? [ E('br'), E('em', {}, [ messages.translate(entry.detail) ]) ] : [])),
				cell(_('What to do'), [ messages.translate(entry.remedy) ])
			]);
		})));
}

function showDetails(name) {
	return tools.explain(name).then(function(answer) {
		const children = name == null ? [] : [ E('p', {}, [ E('strong', {}, [ name ]) ]) ];
		if (answer.errors)
			children.push(tools.warnings(answer.errors));
		else if (name == null)
			children.push(refusalTable(answer.strangers));
		else
			children.push(
				E('ul', {}, answer.hints.map(function(hint) {
					return E('li', {}, [ messages.translate(hint) ]);
				})),
				refusalTable(answer.refusals));
		tools.showDialog(name == null ? _('Unauthenticated clients') : _('User details'), children);
	});
}

return view.extend({
	load: function() {
		return Promise.all([ tools.status(), uci.load('mtbox') ]);
	},

	render: function(loaded) {
		const top = E('div', { 'class': 'cbi-section' });
		const users = E('div', { 'class': 'cbi-section' });
		let status = loaded[0];

		const refresh = function() {
			return Promise.all([ tools.isRunning(), tools.stats() ]).then(function(answers) {
				// `status` runs two commands on the router, so call it only when the service is down.
				return (answers[0] ? Promise.resolve(status) : tools.status()).then(function(fresh) {
					status = fresh;
					show(answers[0], answers[1]);
				});
			});
		};
		const show = function(isRunning, stats) {
			dom.content(top, [ statusTable(isRunning, status, stats) ]);
			if (stats.users)
				dom.content(users, [
					E('h3', {}, [ _('Users') ]),
					userTable(stats),
					E('p', {}, [
						_('Upload and download are counted from the start of the service. Clients without a valid link see an ordinary web site.'),
						' ',
						tools.button('neutral', _('Unauthenticated clients'), function() {
							return showDetails(null);
						})
					])
				]);
			else
				dom.content(users, isRunning ? [ tools.warnings(stats.errors) ] : []);
		};

		poll.add(refresh, REFRESH_SECONDS);
		return refresh().then(function() {
			return E('div', { 'class': 'cbi-map' }, [
				E('h2', {}, [ _('mtbox: Telegram proxy') ]), top, users
			]);
		});
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
