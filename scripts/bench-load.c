// Keep-alive HTTP load over a Unix socket, for scripts/bench: bench-load SOCKET PATH SECONDS CONNECTIONS
// Prints requests per second and latencies in milliseconds as JSON.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 64, BUFFER = 8 << 20 };

struct client {
	const char *socket, *path;
	double end, *latencies;
	size_t count, room;
	int failed;
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// Reads one response into the buffer; 0 when it was whole and had status 200.
static int response(int fd, char *buffer)
{
	size_t have = 0, want = 0, head = 0, chunk = 0;
	int chunked = 0;
	for (;;) {
		ssize_t got = read(fd, buffer + have, BUFFER - have - 1);
		if (got <= 0)
			return -1;
		have += got;
		buffer[have] = 0;
		if (!head) {
			char *end = strstr(buffer, "\r\n\r\n");
			if (!end)
				continue;
			head = end + 4 - buffer;
			chunk = head;
			if (strncmp(buffer + 9, "200", 3))
				return -1;
			char *length = strcasestr(buffer, "\r\ncontent-length:");
			char *encoding = strcasestr(buffer, "\r\ntransfer-encoding: chunked");
			if (length && length < end)
				want = head + strtoul(length + 17, 0, 10);
			chunked = encoding && encoding < end;
			if (!want && !chunked)
				return -1;
		}
		if (want && have >= want)
			return 0;
		while (chunked) {
			char *line = memmem(buffer + chunk, have - chunk, "\r\n", 2);
			if (!line)
				break;
			size_t size = strtoul(buffer + chunk, 0, 16);
			size_t next = line + 2 - buffer + size + 2;
			if (next > have)
				break;
			if (!size)
				return 0;
			chunk = next;
		}
	}
}

static void *ask(void *argument)
{
	struct client *client = argument;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, client->socket, sizeof address.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char *buffer = malloc(BUFFER), request[512];
	int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: docker\r\n\r\n", client->path);
	if (connect(fd, (void *)&address, sizeof address))
		client->failed = 1;
	while (!client->failed && now() < client->end) {
		double start = now();
		if (write(fd, request, length) != length || response(fd, buffer)) {
			client->failed = 1;
			break;
		}
		if (client->count == client->room) {
			client->room = client->room ? 2 * client->room : 4096;
			client->latencies = realloc(client->latencies, client->room * sizeof *client->latencies);
		}
		client->latencies[client->count++] = now() - start;
	}
	close(fd);
	free(buffer);
	return 0;
}

static int ascending(const void *a, const void *b)
{
	double difference = *(double *)a - *(double *)b;
	return difference < 0 ? -1 : difference > 0;
}

int main(int count, char **words)
{
	if (count != 5 || atoi(words[4]) > MOST_CONNECTIONS) {
		fprintf(stderr, "usage: bench-load SOCKET PATH SECONDS CONNECTIONS\n");
		return 2;
	}
	struct client clients[MOST_CONNECTIONS] = { 0 };
	pthread_t threads[MOST_CONNECTIONS];
	int connections = atoi(words[4]), failed = 0;
	double start = now();
	size_t total = 0, at = 0;
	for (int i = 0; i < connections; i++) {
		clients[i] = (struct client){ words[1], words[2], start + atof(words[3]) };
		pthread_create(&threads[i], 0, ask, &clients[i]);
	}
	for (int i = 0; i < connections; i++) {
		pthread_join(threads[i], 0);
		total += clients[i].count;
		failed += clients[i].failed;
	}
	double took = now() - start, *all = malloc((total + 1) * sizeof *all);
	for (int i = 0; i < connections; i++) {
		memcpy(all + at, clients[i].latencies, clients[i].count * sizeof *all);
		at += clients[i].count;
	}
	qsort(all, total, sizeof *all, ascending);
	printf("{\"rate\": %.1f, \"p50\": %.4f, \"p99\": %.4f, \"failed\": %d}\n", total / took,
	       total ? all[total / 2] * 1e3 : 0, total ? all[total * 99 / 100] * 1e3 : 0, failed);
	return failed != 0;
}
