// SPDX-License-Identifier: GPL-2.0-or-later
/* The journal's writer: JSON Lines with a running CRC-32, see docs/journal.md. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define RECORD_MAX (1 << 20)

struct journal journal = { .fd = -1 };

static char record[RECORD_MAX];
static size_t used;
static bool comma;

long long boottime_ms(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)	/* before 2.6.39 */
		clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

double monotonic_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void put(const char *text, size_t len)
{
	/* Room for the checksum is kept; a record cut short is no JSON. */
	if (len > RECORD_MAX - 64 - used)
		len = RECORD_MAX - 64 - used;
	memcpy(record + used, text, len);
	used += len;
}

static void puts_(const char *text)
{
	put(text, strlen(text));
}

static bool plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_quoted(const char *text, size_t len)
{
	char escape[8];
	size_t n;

	put("\"", 1);
	while (len) {
		unsigned char c = *text;

		for (n = 0; n < len && plain(text[n]); n++)
			;
		if (n) {
			put(text, n);
		} else if (c == '"' || c == '\\') {
			escape[0] = '\\';
			escape[1] = c;
			put(escape, 2);
			n = 1;
		} else {
			snprintf(escape, sizeof(escape), "\\u%04x", c);
			put(escape, 6);
			n = 1;
		}
		text += n;
		len -= n;
	}
	put("\"", 1);
}

static void put_key(const char *key)
{
	if (comma)
		put(",", 1);
	comma = true;
	if (key) {
		put_quoted(key, strlen(key));
		put(":", 1);
	}
}

void j_strn(const char *key, const char *value, size_t len)
{
	put_key(key);
	put_quoted(value, len);
}

void j_str(const char *key, const char *value)
{
	j_strn(key, value, strlen(value));
}

void j_int(const char *key, long long value)
{
	char text[24], *first = text + sizeof(text);
	unsigned long long left = value;

	if (value < 0)
		left = -left;
	do
		*--first = '0' + left % 10;
	while (left /= 10);
	if (value < 0)
		*--first = '-';
	put_key(key);
	put(first, text + sizeof(text) - first);
}

void j_bool(const char *key, bool value)
{
	put_key(key);
	puts_(value ? "true" : "false");
}

void j_hex(const char *key, unsigned long long value)
{
	char text[24];

	j_strn(key, text, snprintf(text, sizeof(text), "%llx", value));
}

void j_null(const char *key)
{
	put_key(key);
	puts_("null");
}

void j_open(const char *key, char bracket)
{
	put_key(key);
	put(&bracket, 1);
	comma = false;
}

void j_close(char bracket)
{
	put(&bracket, 1);
	comma = true;
}

void j_begin(const char *kind)
{
	used = 0;
	comma = false;
	j_open(NULL, '{');
	j_int("seq", journal.seq);
	j_int("t", boottime_ms());
	j_str("p", journal.property);
	if (journal.boot)
		j_bool("boot", true);
	j_str("kind", kind);
}

static uint32_t crc32(uint32_t crc, const char *data, size_t len)
{
	static uint32_t table[256];

	if (!table[1]) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;

			for (int k = 0; k < 8; k++)
				c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
			table[i] = c;
		}
	}
	crc = ~crc;
	while (len--)
		crc = table[(crc ^ (unsigned char)*data++) & 0xff] ^ (crc >> 8);
	return ~crc;
}

static void write_all(const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(journal.fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = journal.fd, .events = POLLOUT };

			poll(&p, 1, 1000);
			continue;
		}
		if (n < 0)	/* the port is gone, and with it every word */
			_exit(3);
		data += n;
		len -= n;
	}
}

unsigned long j_end(void)
{
	char tail[32];

	journal.crc = crc32(journal.crc, record, used);
	snprintf(tail, sizeof(tail), ",\"crc\":\"%08x\"}\n", journal.crc);
	memcpy(record + used, tail, strlen(tail));
	write_all(record, used + strlen(tail));
	return journal.seq++;
}

bool host_line(char *line, size_t size)
{
	size_t len = 0;
	char c;

	for (;;) {
		ssize_t n = read(journal.fd, &c, 1);

		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			struct pollfd p = { .fd = journal.fd, .events = POLLIN };

			poll(&p, 1, 1000);
			continue;
		}
		if (n <= 0)	/* no host on the other side (yet) */
			return false;
		if (c == '\n')
			break;
		if (len + 1 < size)
			line[len++] = c;
	}
	line[len] = '\0';
	return true;
}
