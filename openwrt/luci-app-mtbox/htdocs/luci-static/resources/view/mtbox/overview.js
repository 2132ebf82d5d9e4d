'use strict';
'require view';
'require poll';
'require uci';
'require dom';
'require mtbox.tools as tools';
'require mtbox.words as words';

/* Is it running, who is connected, and who was refused for what reason. */

const REFRESH_SECONDS = 5;

function row(title, value) {
	return E('tr', { 'class': 'tr' }, [
		E('td', { 'class': 'td left', 'width': '33%' }, [ title ]),
		E('td', { 'class': 'td left' }, Array.isArray(value) ? value : [ value ])
	]);
}

function page(name, title) {
	return E('a', { 'href': L.url('admin/services/mtbox', name) }, [ title ]);
}

// The program says it in the words of a circuit breaker.
function proxyState(word) {
	return { 'closed': _('works'), 'open': _('does not work'), 'half-open': _('is tried again') }[word] || word;
}

// Why nothing runs, the nearest reason first.
function reasons(status) {
	if (uci.get('mtbox', 'main', 'enabled') != '1')
		return [ E('p', {}, [
			_('It is switched off.'), ' ', page('settings', _('Enable it in the settings.'))
		]) ];
	if (!uci.sections('mtbox', 'user').length)
		return [ E('p', {}, [ _('There are no users.'), ' ', page('users', _('Add one.')) ]) ];
	if (status.errors)
		return [ tools.troubles(status.errors) ];
	if (status.problems.length)
		return [ tools.troubles(status.problems) ];
	if (!status.boot)
		return [ E('p', {}, [
			_('It does not start with the router.'), ' ',
			E('a', { 'href': L.url('admin/system/startup') }, [ _('Enable it at startup.') ])
		]) ];
	return [ E('p', {}, [ _('It stopped, or could not start.'), ' ', page('log', _('See the log.')) ]) ];
}

// A reload with a mistake changes nothing, which nobody would notice.
function mistakes(status) {
	return status.problems && status.problems.length ? [
		E('p', {}, [ _('There is a mistake in the present settings, so it goes on with those before:') ]),
		tools.troubles(status.problems)
	] : [];
}

function head(isRunning, status, stats) {
	const version = status.version ? status.version[0] : '?';
	const rows = [
		row(_('State'), isRunning
			? [ E('span', { 'class': 'label success', 'id': 'mtbox-state' }, [ _('running') ]) ]
				.concat(mistakes(status))
			: [ E('span', { 'class': 'label warning', 'id': 'mtbox-state' }, [ _('not running') ]) ]
				.concat(reasons(status))),
		row(_('Version'), version)
	];
	if (isRunning && stats.users) {
		const ports = uci.get('mtbox', 'main', 'bind_to') || uci.get('mtbox', 'main', 'port');
		rows.push(
			row(_('Running for'), tools.span(stats.uptime_seconds)),
			row(_('Port'), [].concat(ports || '?').join(', ')),
			row(_('Connections'), String(stats.total_connections)));
		(stats.proxies || []).forEach(function(proxy) {
			rows.push(row(_('Upstream proxy'), [ proxy.address, ': ', proxyState(proxy.state) ]
				.concat(proxy.last_error ? [ ' (', proxy.last_error, ')' ] : [])));
		});
		Object.keys(stats.lists || {}).forEach(function(name) {
			const list = stats.lists[name];
			rows.push(row(name == 'blocklist' ? _('Blocklist') : _('Allowlist'),
				_('%d entries, %d connections refused').format(list.entries, list.refused)));
		});
	}
	return E('table', { 'class': 'table' }, rows);
}

function titles(hasTotals) {
	return E('tr', { 'class': 'tr table-titles' }, [
		_('User'), _('Connections'), _('Upload'), _('Download')
	].concat(hasTotals ? [ _('Upload in all'), _('Download in all') ] : []).concat([
		_('Last seen'), _('Refused'), ''
	]).map(function(title) { return E('th', { 'class': 'th' }, [ title ]); }));
}

function cell(title, children) {
	return E('td', { 'class': 'td', 'data-title': title }, children);
}

function person(name, user, hasTotals, now) {
	const traffic = [ [ _('Upload'), user.bytes_in ], [ _('Download'), user.bytes_out ] ];
	if (hasTotals)
		traffic.push([ _('Upload in all'), user.total_bytes_in ],
			[ _('Download in all'), user.total_bytes_out ]);
	return E('tr', { 'class': 'tr', 'data-user': name }, [
		cell(_('User'), user.disabled
			? [ name, ' ', E('span', { 'class': 'label' }, [ _('switched off') ]) ] : [ name ]),
		cell(_('Connections'), [ String(user.connections) ])
	].concat(traffic.map(function(pair) {
		return cell(pair[0], [ tools.bytes(pair[1] || 0) ]);
	})).concat([
		cell(_('Last seen'), [ tools.ago(user.last_seen, now) ]),
		cell(_('Refused'), [
			String(user.refused || 0), ' ',
			tools.button('neutral', _('Why?'), function() { return showReasons(name); })
		]),
		E('td', { 'class': 'td cbi-section-actions' }, [
			tools.button('action', _('Link'), function() { return tools.showLinks(name); })
		])
	]));
}

function people(stats) {
	// The browser's clock may differ from the router's.
	const now = Date.parse(stats.started_at) + stats.uptime_seconds * 1000;
	const names = Object.keys(stats.users);
	const hasTotals = names.some(function(name) { return stats.users[name].total_bytes_in != null; });
	return E('table', { 'class': 'table', 'id': 'mtbox-users' }, [ titles(hasTotals) ]
		.concat(names.map(function(name) {
			return person(name, stats.users[name], hasTotals, now);
		})));
}

function refusals(list) {
	if (!list.length)
		return E('p', {}, [ _('Nobody was refused since the start.') ]);
	return E('table', { 'class': 'table' }, [ E('tr', { 'class': 'tr table-titles' }, [
		_('How often'), _('Last'), _('What happened'), _('What helps')
	].map(function(title) { return E('th', { 'class': 'th' }, [ title ]); })) ]
		.concat(list.map(function(entry) {
			return E('tr', { 'class': 'tr', 'data-cause': entry.cause }, [
				cell(_('How often'), [ String(entry.count) ]),
				cell(_('Last'), [ new Date(entry.last).toLocaleString() ]),
				cell(_('What happened'), [ words.told(entry.what) ]
					.concat(entry.detail ? [ E('br'), E('em', {}, [ words.told(entry.detail) ]) ] : [])),
				cell(_('What helps'), [ words.told(entry.remedy) ])
			]);
		})));
}

function showReasons(name) {
	return tools.explain(name).then(function(answer) {
		const children = name == null ? [] : [ E('p', {}, [ E('strong', {}, [ name ]) ]) ];
		if (answer.errors)
			children.push(tools.troubles(answer.errors));
		else if (name == null)
			children.push(refusals(answer.strangers));
		else
			children.push(
				E('ul', {}, answer.hints.map(function(hint) {
					return E('li', {}, [ words.told(hint) ]);
				})),
				refusals(answer.refusals));
		tools.showWindow(name == null ? _('Turned away') : _('Why a user was refused'), children);
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
				// Only a proxy that does not run is asked what ails it.
				return (answers[0] ? Promise.resolve(status) : tools.status()).then(function(fresh) {
					status = fresh;
					show(answers[0], answers[1]);
				});
			});
		};
		const show = function(isRunning, stats) {
			dom.content(top, [ head(isRunning, status, stats) ]);
			if (stats.users)
				dom.content(users, [
					E('h3', {}, [ _('Users') ]),
					people(stats),
					E('p', {}, [
						_('Traffic since the start of the program. Visitors without a valid link see an ordinary web site.'),
						' ',
						tools.button('neutral', _('Who was turned away?'), function() {
							return showReasons(null);
						})
					])
				]);
			else
				dom.content(users, isRunning ? [ tools.troubles(stats.errors) ] : []);
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
