/* Load generator of the comparison: sends one request again and again, and prints one line of JSON.

   load_generator PORT CONNECTIONS SECONDS RATE REQUEST_FILE

   RATE 0 is a closed loop: each connection sends its next request after the last response. A positive RATE is an open
   loop: that many requests a second are due at even intervals, and a request's time counts from when it was due, also if
   no connection was free. The requests under way at the end are waited for, at most 10 seconds. Times in milliseconds. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1 << 19)
#define MAX_CONNECTIONS 4096
#define MAX_SAMPLES 4000000
#define DRAIN_NS 10000000000

struct connection { int fd; char *buffer; size_t used, sent; int64_t began; int busy; };

static struct connection connections[MAX_CONNECTIONS];
static int idle[MAX_CONNECTIONS], idle_count;
static float samples[MAX_SAMPLES];
static size_t sample_count;
static unsigned long statuses[600], lost, busy_count;
static char *request;
static size_t request_size;
static int epoll, timer;
static struct sockaddr_in address = {.sin_family = AF_INET};
static int64_t started, ends, last;
static double rate;
static uint64_t due_count; /* requests of the open loop that were sent or given to a connection */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int index, int how, uint32_t events) {
    struct epoll_event e = {events, {.u32 = index}};
    epoll_ctl(epoll, how, connections[index].fd, &e);
}

static void open_connection(int index) {
    struct connection *c = &connections[index];
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(index, EPOLL_CTL_ADD, EPOLLIN);
}

static void flush_request(int index) {
    struct connection *c = &connections[index];
    while (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) { watch(index, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT); return; }
        c->sent += n;
    }
    watch(index, EPOLL_CTL_MOD, EPOLLIN);
}

static void start_request(int index, int64_t began) {
    struct connection *c = &connections[index];
    c->began = began;
    c->used = 0;
    c->busy = 1;
    busy_count++;
    c->sent = 0;
    ssize_t n = send(c->fd, request, request_size, MSG_DONTWAIT | MSG_NOSIGNAL);
    c->sent = n < 0 ? 0 : n;
    if (c->sent < request_size) flush_request(index);
}

static int64_t due_at(uint64_t number) { return started + (int64_t)(number * 1e9 / rate); }

static void start_due(void) {
    int64_t now = now_ns();
    while (idle_count && due_at(due_count) <= now && due_at(due_count) < ends) start_request(idle[--idle_count], due_at(due_count++));
    int64_t next = due_at(due_count);
    struct itimerspec when = {{0, 0}, {next / 1000000000, next % 1000000000}};
    if (idle_count && next < ends) timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void next_request(int index) {
    int64_t now = now_ns();
    if (!rate && now < ends) start_request(index, now);
    if (rate) {
        idle[idle_count++] = index;
        start_due();
    }
}

/* Whether the chunks that begin here are complete. */
static int chunks_complete(const char *at, const char *end) {
    for (;;) {
        const char *line = memmem(at, end - at, "\r\n", 2);
        if (!line) return 0;
        size_t size = strtoul(at, NULL, 16);
        if (!size) return memmem(line, end - line, "\r\n\r\n", 4) != NULL;
        if ((size_t)(end - line) < size + 4) return 0;
        at = line + 2 + size + 2;
    }
}

/* Whether the buffer has a whole response, and whether its connection is to be closed after it. */
static int response_complete(struct connection *c, int *closes) {
    c->buffer[c->used] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(c->buffer, "\ncontent-length:");
    *closes = strcasestr(c->buffer, "\nconnection: close") != NULL;
    size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
    *end = '\r';
    if (length) return c->used >= (size_t)(end + 4 - c->buffer) + body;
    return chunks_complete(end + 4, c->buffer + c->used);
}

static void reopen(int index) {
    close(connections[index].fd);
    open_connection(index);
}

static void receive(int index) {
    struct connection *c = &connections[index];
    int closes = 0;
    ssize_t n = recv(c->fd, c->buffer + c->used, BUFFER - 1 - c->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        int was_busy = c->busy;
        lost += was_busy;
        busy_count -= was_busy;
        c->busy = 0;
        reopen(index);
        if (was_busy) next_request(index);
        return;
    }
    c->used += n;
    if (!c->busy || !response_complete(c, &closes)) return;
    last = now_ns();
    if (sample_count < MAX_SAMPLES) samples[sample_count++] = (last - c->began) / 1e6;
    int status = c->used > 12 ? atoi(c->buffer + 9) : 0;
    statuses[status > 0 && status < 600 ? status : 0]++;
    c->busy = 0;
    busy_count--;
    if (closes) reopen(index);
    next_request(index);
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_result(double seconds, uint64_t due) {
    qsort(samples, sample_count, sizeof *samples, compare);
    double p50 = sample_count ? samples[sample_count / 2] : 0, p99 = sample_count ? samples[sample_count * 99 / 100] : 0;
    printf("{\"requests\": %zu, \"per_second\": %.3f, \"p50\": %.4f, \"p99\": %.4f, \"lost\": %lu, \"due\": %lu, \"statuses\": {",
           sample_count, sample_count / seconds, p50, p99, lost, (unsigned long)due);
    const char *separator = "";
    for (int i = 0; i < 600; i++)
        if (statuses[i]) { printf("%s\"%d\": %lu", separator, i, statuses[i]); separator = ", "; }
    puts("}}");
}

int main(int count, char **arguments) {
    if (count != 6) { fputs("load_generator PORT CONNECTIONS SECONDS RATE REQUEST_FILE\n", stderr); return 2; }
    int number = atoi(arguments[2]);
    if (number < 1 || number > MAX_CONNECTIONS) { fputs("too many connections\n", stderr); return 2; }
    address.sin_port = htons(atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    rate = atof(arguments[4]);
    FILE *file = fopen(arguments[5], "rb");
    if (!file) fail(arguments[5]);
    request = malloc(1 << 20);
    request_size = fread(request, 1, 1 << 20, file);
    fclose(file);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event t = {EPOLLIN, {.u32 = MAX_CONNECTIONS}}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &t);
    for (int i = 0; i < number; i++) {
        connections[i].buffer = malloc(BUFFER);
        open_connection(i);
        idle[i] = number - 1 - i;
    }
    started = now_ns();
    ends = started + (int64_t)(atof(arguments[3]) * 1e9);
    if (rate) { idle_count = number; start_due(); }
    else for (int i = 0; i < number; i++) start_request(i, now_ns());
    int64_t now = started;
    while ((busy_count || now < ends || (rate && due_at(due_count) < ends)) && now < ends + DRAIN_NS) {
        int n = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            unsigned index = events[i].data.u32;
            uint64_t expirations;
            if (index == MAX_CONNECTIONS) { if (read(timer, &expirations, sizeof expirations) > 0) start_due(); continue; }
            if (events[i].events & EPOLLOUT) flush_request(index);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(index);
        }
        now = now_ns();
    }
    print_result(last > started ? (last - started) / 1e9 : 1, rate ? due_count : sample_count);
    return 0;
}
