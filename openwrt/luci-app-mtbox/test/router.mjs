// A mock of a router with LuCI: UCI with staged changes, procd, rpcd and the web server. The ubus
// object `luci.mtbox` is the real script, which calls a running mtbox.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { read } from '../po/update.mjs';

export const APP = fileURLToPath(new URL('..', import.meta.url));
const BACKEND = path.join(APP, 'root/usr/libexec/rpcd/luci.mtbox');
const RESOURCES = path.join(APP, 'htdocs/luci-static/resources');

const quote = text => `'${String(text).replace(/'/g, `'\\''`)}'`;

// The configuration as text in UCI syntax.
function print(config) {
	return Object.values(config).map(section => [
		`config ${section['.type']} ${quote(section['.name'])}`,
		...Object.entries(section).filter(([ key ]) => !key.startsWith('.')).flatMap(([ key, value ]) =>
			Array.isArray(value) ? value.map(one => `\tlist ${key} ${quote(one)}`)
				: [ `\toption ${key} ${quote(value)}` ])
	].join('\n') + '\n').join('\n');
}

// The translations into a language, as an object from original to translation.
export function translations(language) {
	const file = path.join(APP, `po/${language}/mtbox.po`);
	return Object.fromEntries(read(fs.readFileSync(file, 'utf8')));
}

// A free TCP port on 127.0.0.1.
export function freePort() {
	return new Promise(resolve => {
		const server = net.createServer().listen(0, '127.0.0.1', () => {
			const { port } = server.address();
			server.close(() => resolve(port));
		});
	});
}

// A configuration whose connections all stay on 127.0.0.1. `telegram` is the port of the SOCKS5
// proxy.
export function config(port, telegram, users) {
	return {
		main: {
			'.name': 'main', '.type': 'mtbox', enabled: '1', port: String(port), host: 'site.test',
			open_port: '1', bind_to: [ `127.0.0.1:${port}` ], public_ipv4: '192.0.2.1',
			domain_fronting_host: '127.0.0.1', domain_fronting_scout: '0',
			network_dns: 'udp://127.0.0.1:9', network_proxies: [ `socks5://127.0.0.1:${telegram}` ]
		},
		...Object.fromEntries(Object.entries(users).map(([ sid, options ]) =>
			[ sid, { '.name': sid, '.type': 'user', ...options } ]))
	};
}

export class Router {
	// `config` is the content of /etc/config/mtbox: sections by name.
	constructor(program, config) {
		this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'luci-mtbox-'));
		this.program = program;
		this.committed = config;
		config.main.api_bind_to = `unix:${this.dir}/stats.sock`;
		process.on('exit', () => this.child?.kill());
		this.staged = [];
		this.calls = [];
		this.lines = [];
		this.toml = path.join(this.dir, 'mtbox.toml');
		this.bin = path.join(this.dir, 'bin');
		fs.mkdirSync(this.bin);
		fs.mkdirSync(path.join(this.dir, 'config'));
		fs.symlinkSync(program, path.join(this.bin, 'mtbox'));
		fs.writeFileSync(path.join(this.bin, 'logread'), `#!/bin/sh\ncat "${this.dir}/log"\n`, { mode: 0o755 });
		fs.writeFileSync(path.join(this.dir, 'log'), '');
		this.env = {
			PATH: `${this.bin}:${process.env.PATH}`, MTBOX_CONFIG: this.toml,
			MTBOX_UCI: path.join(this.dir, 'config')
		};
	}

	// Adds a line to the system log in the format of logread.
	log(line, priority = 'daemon.err') {
		const at = new Date().toUTCString().replace(/^(\w+), (\d+) (\w+) (\d+) ([\d:]+).*/, '$1 $3 $2 $5 $4');
		fs.appendFileSync(path.join(this.dir, 'log'), `${at} ${priority} mtbox[4711]: ${line}\n`);
	}

	// Does the work of the init script for start and reload.
	reload() {
		const config = this.committed;
		for (const section of Object.values(config))
			if (section['.type'] == 'user' && !section.secret)
				section.secret = this.run('generate-secret', '--hex', section.host ?? config.main.host).trim();
		fs.writeFileSync(path.join(this.dir, 'config/mtbox'), print(config));
		if (config.main.enabled != '1')
			return this.stop();
		this.run('uci', '--package', 'mtbox', '--config-dir', path.join(this.dir, 'config'),
			'--output', this.toml);
		if (this.child) {
			this.child.kill('SIGHUP');
			return;
		}
		this.child = spawn(path.join(this.bin, 'mtbox'), [ 'run', this.toml ], { stdio: [ 'ignore', 'ignore', 'pipe' ] });
		this.child.stderr.on('data', data => String(data).split('\n').filter(Boolean).forEach(line => this.log(line)));
		const child = this.child;
		child.on('exit', () => {
			if (this.child == child)
				this.child = null;
		});
	}

	run(...args) {
		return execFileSync(path.join(this.bin, 'mtbox'), args,
			{ encoding: 'utf8', stdio: [ 'ignore', 'pipe', 'pipe' ] });
	}

	stop() {
		this.child?.kill();
		this.child = null;
	}

	// The committed configuration with the staged changes applied.
	merged() {
		const config = structuredClone(this.committed);
		for (const [ method, params ] of this.staged)
			stage(config, method, params);
		return config;
	}

	// Calls the script as rpcd does; `input` is raw text or an object, which is sent as JSON.
	backend(method, input = {}, env = {}) {
		return new Promise(resolve => {
			const child = spawn('busybox', [ 'ash', BACKEND, 'call', method ], { env: { ...this.env, ...env } });
			let out = '';
			child.stdout.on('data', data => { out += data; });
			child.stdin.on('error', () => {});
			child.stdin.end(typeof input == 'string' || Buffer.isBuffer(input) ? input
				: JSON.stringify({ ...input, ubus_rpc_session: '0'.repeat(32) }));
			child.on('close', code => resolve({ code, out }));
		});
	}

	async ubus(object, method, params) {
		this.calls.push([ object, method, params ]);
		if (object == 'luci.mtbox')
			return JSON.parse((await this.backend(method, params)).out);
		if (object == 'service')
			return { mtbox: { instances: { instance1: { running: this.child != null } } } };
		switch (method) {
		case 'get':
			return { values: this.merged() };
		case 'changes':
			return { changes: this.staged };
		case 'apply':
			for (const [ change, params ] of this.staged.splice(0))
				stage(this.committed, change, params);
			this.reload();
			return {};
		default:
			this.staged.push([ method, params ]);
			return {};
		}
	}

	serve() {
		const html = fs.readFileSync(path.join(APP, 'test/mock/index.html'));
		const script = fs.readFileSync(path.join(APP, 'test/mock/luci.js'));
		const menu = fs.readFileSync(path.join(APP, 'root/usr/share/luci/menu.d/luci-app-mtbox.json'));
		const send = (response, type, body) => response.writeHead(200, { 'content-type': type }).end(body);
		this.server = http.createServer(async (request, response) => {
			const at = new URL(request.url, 'http://127.0.0.1').pathname;
			if (at == '/')
				return send(response, 'text/html; charset=utf-8', html);
			if (at == '/luci.js')
				return send(response, 'text/javascript; charset=utf-8', script);
			if (at == '/menu')
				return send(response, 'application/json', menu);
			if (at.startsWith('/translations/'))
				return send(response, 'application/json', JSON.stringify(translations(path.basename(at))));
			if (at.startsWith('/resources/') && !at.includes('..'))
				return send(response, 'text/javascript; charset=utf-8',
					fs.readFileSync(path.join(RESOURCES, at.slice('/resources/'.length))));
			if (at != '/ubus')
				return response.writeHead(404).end();
			let body = '';
			for await (const chunk of request)
				body += chunk;
			const { id, params: [ , object, method, params ] } = JSON.parse(body);
			let result;
			try {
				result = [ 0, await this.ubus(object, method, params) ];
			} catch {
				result = [ 9 ];
			}
			send(response, 'application/json', JSON.stringify({ jsonrpc: '2.0', id, result }));
		});
		return new Promise(resolve => this.server.listen(0, '127.0.0.1',
			() => resolve(`http://127.0.0.1:${this.server.address().port}/`)));
	}

	close() {
		this.stop();
		this.server?.close();
		this.server?.closeAllConnections();
		fs.rmSync(this.dir, { recursive: true });
	}
}

function stage(config, method, { type, name, section, values, options }) {
	if (method == 'add')
		config[name] = { '.name': name, '.type': type };
	else if (method == 'set')
		Object.assign(config[section], values);
	else if (options)
		options.forEach(option => delete config[section][option]);
	else
		delete config[section];
}
