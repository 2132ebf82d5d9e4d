'use strict';
'require baseclass';

/*
 * QR codes: ISO/IEC 18004, bytes only, level M, versions 1 to 20 (666 bytes). Links hold secrets,
 * so no service may draw them; and not every release of LuCI has an encoder of its own.
 */

// Of each version: correction bytes of a block, and number of blocks (table 9, level M).
const CORRECTION = [ 10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26 ];
const BLOCKS = [ 1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16 ];

const EXP = [], LOG = [];
for (let i = 0, x = 1; i < 255; i++) {
	EXP[i] = x;
	LOG[x] = i;
	x = (x << 1) ^ (x & 0x80 ? 0x11d : 0);
}

function times(a, b) {
	return a && b ? EXP[(LOG[a] + LOG[b]) % 255] : 0;
}

// The middles of the small squares, along one side (annex E).
function alignments(version) {
	if (version == 1)
		return [];
	const count = Math.floor(version / 7) + 2;
	const last = version * 4 + 10;
	const step = Math.ceil((last - 6) / (count - 1) / 2) * 2;
	const middles = [ 6 ];
	for (let i = 1; i < count; i++)
		middles.push(last - (count - 1 - i) * step);
	return middles;
}

// How many bytes a version holds, corrections included.
function capacity(version) {
	const count = alignments(version).length;
	let bits = (16 * version + 128) * version + 64;
	if (count)
		bits -= (25 * count - 10) * count - 55;
	if (version >= 7)
		bits -= 36;
	return bits >> 3;
}

function room(version) {
	return capacity(version) - CORRECTION[version - 1] * BLOCKS[version - 1];
}

function corrections(data, degree) {
	// The product of all (x - 2^i), highest power left out.
	let generator = [ 1 ];
	for (let i = 0; i < degree; i++) {
		const next = generator.concat(0);
		generator.forEach(function(factor, at) { next[at + 1] ^= times(factor, EXP[i]); });
		generator = next;
	}
	const rest = new Array(degree).fill(0);
	data.forEach(function(byte) {
		const factor = byte ^ rest.shift();
		rest.push(0);
		for (let i = 0; i < degree; i++)
			rest[i] ^= times(generator[i + 1], factor);
	});
	return rest;
}

// The text as bytes with their header and filling.
function message(bytes, version) {
	const bits = [];
	const put = function(value, length) {
		while (length--)
			bits.push((value >> length) & 1);
	};
	put(4, 4);
	put(bytes.length, version < 10 ? 8 : 16);
	bytes.forEach(function(byte) { put(byte, 8); });
	put(0, Math.min(4, room(version) * 8 - bits.length));
	put(0, -bits.length & 7);
	for (let pad = 0xec; bits.length < room(version) * 8; pad ^= 0xec ^ 0x11)
		put(pad, 8);
	const out = [];
	for (let i = 0; i < bits.length; i += 8)
		out.push(bits.slice(i, i + 8).reduce(function(sum, bit) { return sum << 1 | bit; }, 0));
	return out;
}

// Cuts into blocks, adds corrections, and deals out one byte of each block in turn.
function interleaved(data, version) {
	const count = BLOCKS[version - 1];
	const small = Math.floor(data.length / count);
	const firstLarge = count - data.length % count;
	const blocks = [];
	for (let i = 0, at = 0; i < count; i++) {
		const length = small + (i >= firstLarge ? 1 : 0);
		blocks.push(data.slice(at, at + length));
		at += length;
	}
	const checks = blocks.map(function(block) {
		return corrections(block, CORRECTION[version - 1]);
	});
	const out = [];
	[ blocks, checks ].forEach(function(lists) {
		const longest = lists[lists.length - 1].length;
		for (let i = 0; i < longest; i++)
			lists.forEach(function(list) {
				if (i < list.length)
					out.push(list[i]);
			});
	});
	return out;
}

// The remainder of a value with room for its check bits, by a generator of that degree.
function checked(value, generator, degree) {
	let rest = value;
	for (let i = 0; i < degree; i++)
		rest = (rest << 1) ^ ((rest >> (degree - 1)) * generator);
	return value << degree | rest;
}

const MASKS = [
	function(x, y) { return (x + y) % 2 == 0; },
	function(x, y) { return y % 2 == 0; },
	function(x) { return x % 3 == 0; },
	function(x, y) { return (x + y) % 3 == 0; },
	function(x, y) { return (Math.floor(x / 3) + Math.floor(y / 2)) % 2 == 0; },
	function(x, y) { return x * y % 2 + x * y % 3 == 0; },
	function(x, y) { return (x * y % 2 + x * y % 3) % 2 == 0; },
	function(x, y) { return ((x + y) % 2 + x * y % 3) % 2 == 0; }
];

// The parts that are the same for each text: `fixed[y][x]` says which modules they are.
function frame(version) {
	const size = version * 4 + 17;
	const grid = [], fixed = [];
	for (let y = 0; y < size; y++) {
		grid.push(new Array(size).fill(false));
		fixed.push(new Array(size).fill(false));
	}
	const set = function(x, y, dark) {
		if (x < 0 || y < 0 || x >= size || y >= size)
			return;
		grid[y][x] = dark;
		fixed[y][x] = true;
	};
	for (let i = 0; i < size; i++) {
		set(i, 6, i % 2 == 0);
		set(6, i, i % 2 == 0);
	}
	[ [ 3, 3 ], [ size - 4, 3 ], [ 3, size - 4 ] ].forEach(function(at) {
		for (let dy = -4; dy <= 4; dy++)
			for (let dx = -4; dx <= 4; dx++) {
				const ring = Math.max(Math.abs(dx), Math.abs(dy));
				set(at[0] + dx, at[1] + dy, ring != 2 && ring != 4);
			}
	});
	const middles = alignments(version), last = middles.length - 1;
	middles.forEach(function(y, row) {
		middles.forEach(function(x, column) {
			const corner = (row == 0 && (column == 0 || column == last)) || (row == last && column == 0);
			for (let dy = -2; dy <= 2 && !corner; dy++)
				for (let dx = -2; dx <= 2; dx++)
					set(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) != 1);
		});
	});
	if (version >= 7) {
		const bits = checked(version, 0x1f25, 12);
		for (let i = 0; i < 18; i++) {
			const near = Math.floor(i / 3), far = size - 11 + i % 3;
			set(near, far, (bits >> i & 1) == 1);
			set(far, near, (bits >> i & 1) == 1);
		}
	}
	return { size: size, grid: grid, fixed: fixed, set: set };
}

// Level M is 0 in two bits, so the mask alone is written.
function putFormat(picture, mask) {
	const bits = checked(mask, 0x537, 10) ^ 0x5412;
	const size = picture.size;
	for (let i = 0; i < 15; i++) {
		const dark = (bits >> i & 1) == 1;
		if (i < 8)
			picture.set(size - 1 - i, 8, dark);
		else
			picture.set(8, size - 15 + i, dark);
		if (i < 6)
			picture.set(8, i, dark);
		else if (i < 8)
			picture.set(8, i + 1, dark);
		else
			picture.set(i == 8 ? 7 : 14 - i, 8, dark);
	}
	picture.set(8, size - 8, true);
}

// Up and down in columns of two, from the right; column 6 is left out.
function putBytes(picture, bytes, mask) {
	let bit = 0;
	for (let right = picture.size - 1; right >= 1; right -= 2) {
		if (right == 6)
			right = 5;
		for (let step = 0; step < picture.size; step++)
			for (let side = 0; side < 2; side++) {
				const x = right - side;
				const up = (right + 1 & 2) == 0;
				const y = up ? picture.size - 1 - step : step;
				if (picture.fixed[y][x])
					continue;
				const dark = bit < bytes.length * 8 && bytes[bit >> 3] >> (7 - (bit & 7)) & 1;
				picture.grid[y][x] = (dark == 1) != MASKS[mask](x, y);
				bit++;
			}
	}
}

// How hard a picture is to read (section 7.8.3): runs, squares, false corners, and imbalance.
function penalty(grid) {
	const size = grid.length;
	let sum = 0, dark = 0;
	const line = function(at) {
		let run = 0, before = null, bits = 0;
		for (let i = 0; i < size; i++) {
			run = at(i) === before ? run + 1 : 1;
			before = at(i);
			if (run == 5)
				sum += 3;
			else if (run > 5)
				sum++;
			bits = (bits << 1 | (before ? 1 : 0)) & 0x7ff;
			if (i >= 10 && (bits == 0x05d || bits == 0x5d0))
				sum += 40;
		}
	};
	for (let y = 0; y < size; y++) {
		line(function(x) { return grid[y][x]; });
		line(function(x) { return grid[x][y]; });
		for (let x = 0; x < size; x++) {
			dark += grid[y][x] ? 1 : 0;
			if (x && y && grid[y][x] == grid[y - 1][x] && grid[y][x] == grid[y][x - 1] &&
			    grid[y][x] == grid[y - 1][x - 1])
				sum += 3;
		}
	}
	return sum + Math.floor(Math.abs(dark * 20 / (size * size) - 10)) * 10;
}

return baseclass.extend({
	/* The picture as rows of booleans, true = dark. Throws when the text is too long. */
	encode: function(text) {
		const bytes = Array.from(new TextEncoder().encode(text));
		let version = 1;
		while (room(version) < bytes.length + (version < 10 ? 2 : 3))
			if (++version > CORRECTION.length)
				throw new Error(_('The text is too long for a QR code.'));
		const words = interleaved(message(bytes, version), version);
		let best = null, least = Infinity;
		for (let mask = 0; mask < MASKS.length; mask++) {
			const picture = frame(version);
			putFormat(picture, mask);
			putBytes(picture, words, mask);
			const cost = penalty(picture.grid);
			if (cost < least) {
				least = cost;
				best = picture.grid;
			}
		}
		return best;
	},

	/* A canvas with the picture and the quiet zone that readers need. */
	draw: function(text, scale) {
		const rows = this.encode(text);
		const side = (rows.length + 8) * scale;
		const canvas = E('canvas', { 'width': side, 'height': side, 'class': 'mtbox-qr' });
		const pen = canvas.getContext('2d');
		pen.fillStyle = '#fff';
		pen.fillRect(0, 0, side, side);
		pen.fillStyle = '#000';
		rows.forEach(function(row, y) {
			row.forEach(function(dark, x) {
				if (dark)
					pen.fillRect((x + 4) * scale, (y + 4) * scale, scale, scale);
			});
		});
		return canvas;
	}
});
