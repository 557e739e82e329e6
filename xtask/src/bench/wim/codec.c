/*
 * wimlib's codecs over the chunks of one file, timed in processor time. Built and run by `cargo xtask bench wim`; the arguments
 * and the output are those of our own program, `crates/codec/examples/measure.rs`.
 *
 * A program of its own: nothing of wimlib is linked into Gravure. Only the documented interface of the installed shared
 * library is used, found at run time, so that no development package is needed.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int (*create_compressor)(int, size_t, unsigned, void **);
static size_t (*compress)(const void *, size_t, void *, size_t, void *);
static int (*create_decompressor)(int, size_t, void **);
static int (*decompress)(const void *, size_t, void *, size_t, void *);

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (!found)
		fail(dlerror());
	return found;
}

static unsigned char *load(const char *path, size_t *length)
{
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END))
		fail(path);
	*length = (size_t)ftell(file);
	rewind(file);
	unsigned char *bytes = malloc(*length + 1);
	if (!bytes || fread(bytes, 1, *length, file) != *length)
		fail(path);
	fclose(file);
	return bytes;
}

/* Seconds of processor time that this thread has used. */
static double processor_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void put_length(unsigned char *to, size_t length)
{
	for (int at = 0; at < 4; at++)
		to[at] = (unsigned char)(length >> (8 * at));
}

static size_t get_length(const unsigned char *from)
{
	return from[0] | (size_t)from[1] << 8 | (size_t)from[2] << 16 | (size_t)from[3] << 24;
}

static void encode(int method, size_t chunk_size, unsigned level, const char *from, const char *to)
{
	size_t length, packed_length = 0, bytes = 0;
	unsigned char *plain = load(from, &length);
	unsigned char *packed = malloc(length + 4 * (length / chunk_size + 1));
	void *compressor;
	double seconds = 0;
	if (!packed || create_compressor(method, chunk_size, level, &compressor))
		fail("cannot make the compressor");
	for (size_t at = 0; at < length; at += chunk_size) {
		size_t plain_length = length - at < chunk_size ? length - at : chunk_size;
		unsigned char *stored = packed + packed_length + 4;
		double start = processor_seconds();
		size_t stored_length = compress(plain + at, plain_length, stored, plain_length - 1, compressor);
		seconds += processor_seconds() - start;
		if (!stored_length) {
			stored_length = plain_length;
			memcpy(stored, plain + at, plain_length);
		}
		put_length(packed + packed_length, stored_length);
		packed_length += 4 + stored_length;
		bytes += stored_length;
	}
	FILE *file = fopen(to, "wb");
	if (!file || fwrite(packed, 1, packed_length, file) != packed_length || fclose(file))
		fail(to);
	printf("%.6f %zu\n", seconds, bytes);
}

static void decode(int method, size_t chunk_size, int rounds, const char *from, const char *expected)
{
	size_t packed_length, length;
	unsigned char *packed = load(from, &packed_length);
	unsigned char *plain = load(expected, &length);
	unsigned char *output = malloc(length + 1);
	void *decompressor;
	double fastest = 1e300;
	if (!output || create_decompressor(method, chunk_size, &decompressor))
		fail("cannot make the decompressor");
	for (int round = 0; round < rounds; round++) {
		const unsigned char *stored = packed;
		memset(output, 0, length);
		double start = processor_seconds();
		for (size_t at = 0; at < length; at += chunk_size) {
			size_t plain_length = length - at < chunk_size ? length - at : chunk_size;
			size_t stored_length = get_length(stored);
			stored += 4;
			if (stored_length == plain_length)
				memcpy(output + at, stored, plain_length);
			else if (decompress(stored, stored_length, output + at, plain_length, decompressor))
				fail("a chunk cannot be decoded");
			stored += stored_length;
		}
		double seconds = processor_seconds() - start;
		if (seconds < fastest)
			fastest = seconds;
		if (memcmp(output, plain, length))
			fail("the decoded bytes differ from the plain ones");
	}
	printf("%.6f %zu\n", fastest, length);
}

int main(int count, char **args)
{
	if (count != 7)
		fail("expected encode or decode and five arguments, see the source");
	void *library = dlopen("libwim.so.15", RTLD_NOW);
	if (!library)
		fail(dlerror());
	*(void **)&create_compressor = symbol(library, "wimlib_create_compressor");
	*(void **)&compress = symbol(library, "wimlib_compress");
	*(void **)&create_decompressor = symbol(library, "wimlib_create_decompressor");
	*(void **)&decompress = symbol(library, "wimlib_decompress");
	/* The numbers of wimlib's compression types. */
	int method = !strcmp(args[2], "XPRESS") ? 1 : !strcmp(args[2], "LZX") ? 2 : 3;
	size_t chunk_size = strtoul(args[3], NULL, 10);
	if (!strcmp(args[1], "encode"))
		encode(method, chunk_size, (unsigned)atoi(args[4]), args[5], args[6]);
	else
		decode(method, chunk_size, atoi(args[4]), args[5], args[6]);
	return 0;
}
