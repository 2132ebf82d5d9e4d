// A FakeTLS client, and a SOCKS5 proxy that answers as a Telegram data centre: the minimum that
// produces traffic.
import crypto from 'node:crypto';
import net from 'node:net';

const sized = (bytes, width) => {
	const length = Buffer.alloc(width);
	length.writeUIntBE(bytes.length, 0, width);
	return Buffer.concat([ length, bytes ]);
};
const extension = (kind, body) => Buffer.concat([ Buffer.from([ kind >> 8, kind & 255 ]), sized(body, 2) ]);
const record = (kind, body) => Buffer.concat([ Buffer.from([ kind, 3, 3 ]), sized(body, 2) ]);
const RECORD_MAX = 16_384;
const records = body => Buffer.concat(Array.from({ length: Math.ceil(body.length / RECORD_MAX) },
	(_, at) => record(23, body.subarray(at * RECORD_MAX, (at + 1) * RECORD_MAX))));

// A ClientHello authenticated with `key`; `skew` shifts the clock of the client, in seconds.
function clientHello(key, host, skew) {
	const name = Buffer.from(host);
	const share = Buffer.concat([ Buffer.from([ 0, 0x1d ]), sized(crypto.randomBytes(32), 2) ]);
	const extensions = Buffer.concat([
		extension(0, sized(Buffer.concat([ Buffer.from([ 0 ]), sized(name, 2) ]), 2)),
		extension(10, sized(Buffer.from([ 0, 0x1d ]), 2)),
		extension(13, sized(Buffer.from([ 4, 3, 8, 4, 4, 1 ]), 2)),
		extension(43, sized(Buffer.from([ 3, 4 ]), 1)),
		extension(51, sized(share, 2))
	]);
	const body = Buffer.concat([
		Buffer.from([ 3, 3 ]), Buffer.alloc(32), sized(crypto.randomBytes(32), 1),
		sized(Buffer.from([ 0x13, 1, 0x13, 2, 0x13, 3 ]), 2), Buffer.from([ 1, 0 ]), sized(extensions, 2)
	]);
	const message = Buffer.concat([ Buffer.from([ 1 ]), sized(body, 3) ]);
	const whole = Buffer.concat([ Buffer.from([ 22, 3, 1 ]), sized(message, 2) ]);
	const digest = crypto.createHmac('sha256', key).update(whole).digest();
	const time = Math.floor(Date.now() / 1000) + skew;
	digest.writeUInt32LE((digest.readUInt32LE(28) ^ time) >>> 0, 28);
	digest.copy(whole, 11);
	return whole;
}

// Connects with a hexadecimal secret and sends `size` bytes. Resolves when more than 100,000 bytes
// are received, or when the connection closes.
export function connect(port, secret, size, skew = 0) {
	const bytes = Buffer.from(secret, 'hex');
	const key = bytes.subarray(1, 17), host = bytes.subarray(17).toString();
	const socket = net.connect(port, '127.0.0.1');
	return new Promise(resolve => {
		let got = 0, isAnswered = false;
		// A refused client gets a connection reset.
		socket.on('error', () => {});
		socket.on('close', () => resolve({ socket, got }));
		socket.on('connect', () => socket.write(clientHello(key, host, skew)));
		socket.on('data', data => {
			got += data.length;
			if (!isAnswered) {
				isAnswered = true;
				const frame = crypto.randomBytes(64);
				frame[0] = 0x41;
				frame.fill(0xdd, 56, 60);
				frame.writeInt16LE(2, 60);
				const aes = crypto.createCipheriv('aes-256-ctr', crypto.createHash('sha256')
					.update(Buffer.concat([ frame.subarray(8, 40), key ])).digest(), frame.subarray(40, 56));
				const encrypted = aes.update(frame);
				const header = Buffer.concat([ frame.subarray(0, 56), encrypted.subarray(56) ]);
				socket.write(Buffer.concat([
					record(20, Buffer.from([ 1 ])),
					records(Buffer.concat([ header, aes.update(crypto.randomBytes(size)) ]))
				]));
			} else if (got > 100_000) {
				resolve({ socket, got });
			}
		});
	});
}

// A SOCKS5 proxy that answers the first bytes of each session with 200 kB itself.
export function listenAsTelegram() {
	const server = net.createServer(socket => {
		let step = 0;
		socket.on('error', () => {});
		socket.on('data', () => {
			step++;
			if (step == 1)
				socket.write(Buffer.from([ 5, 0 ]));
			else if (step == 2)
				socket.write(Buffer.from([ 5, 0, 0, 1, 0, 0, 0, 0, 0, 0 ]));
			else if (step == 3)
				socket.write(crypto.randomBytes(200_000));
		});
	});
	return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}
