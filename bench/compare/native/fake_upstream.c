/* Fake upstream of the comparison: chat completions, and Prompt Studio's run API, with answers of equal size.

   fake_upstream SMALL LARGE       sizes of an answer's body in bytes; prints its port

   A request whose body has at least LARGE / 2 bytes gets a LARGE answer, any other a SMALL one. `POST /control/delay/MS`
   sets the delay of all later answers. It serves until it is killed. One request at a time per connection. */

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

#define MAX_FD 20000
#define BUFFER (1 << 19)

struct answer { char *bytes; size_t length; };
struct connection { char *buffer; size_t used; const struct answer *pending; size_t sent; int open; unsigned generation; };
struct due { int fd; unsigned generation; int64_t at; };

static struct connection connections[MAX_FD];
static struct due queue[MAX_FD]; /* ring: all waiting answers have the same delay, so the first is the earliest */
static unsigned queue_head, queue_tail;
static struct answer answers[2][2]; /* [chat completion, run][small, large] */
static const struct answer accepted = {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 40};
static size_t large;
static long delay_ms;
static int epoll, timer;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct answer make_answer(const char *before, const char *after, size_t size) {
    char head[128];
    int length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", size);
    size_t fill = size - strlen(before) - strlen(after);
    struct answer made = {malloc(length + size + 1), length + size};
    memcpy(made.bytes, head, length);
    strcpy(made.bytes + length, before);
    memset(made.bytes + length + strlen(before), 'x', fill);
    strcpy(made.bytes + length + strlen(before) + fill, after);
    return made;
}

static void close_connection(int fd) {
    close(fd); /* also removes it from the epoll set */
    connections[fd].open = 0;
    connections[fd].generation++;
}

static void send_answer(int fd) {
    struct connection *c = &connections[fd];
    while (c->sent < c->pending->length) {
        ssize_t n = write(fd, c->pending->bytes + c->sent, c->pending->length - c->sent);
        if (n < 0 && errno == EAGAIN) {
            struct epoll_event e = {EPOLLIN | EPOLLOUT, {.fd = fd}};
            epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e);
            return;
        }
        if (n < 0) { close_connection(fd); return; }
        if (c->sent + n == c->pending->length && c->sent) {
            struct epoll_event e = {EPOLLIN, {.fd = fd}};
            epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e);
        }
        c->sent += n;
    }
    c->pending = NULL;
}

static void arm_timer(void) {
    struct itimerspec when = {{0, 0}, {0, 0}};
    if (queue_head != queue_tail) {
        int64_t at = queue[queue_head % MAX_FD].at;
        when.it_value.tv_sec = at / 1000000000;
        when.it_value.tv_nsec = at % 1000000000;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void answer(int fd, const struct answer *with) {
    struct connection *c = &connections[fd];
    c->pending = with;
    c->sent = 0;
    c->used = 0;
    if (!delay_ms) { send_answer(fd); return; }
    int idle = queue_head == queue_tail;
    queue[queue_tail++ % MAX_FD] = (struct due){fd, c->generation, now_ns() + delay_ms * 1000000};
    if (idle) arm_timer();
}

/* Length of the request in the buffer with its body; 0 while it is incomplete. */
static size_t request_length(struct connection *c, size_t *body) {
    c->buffer[c->used] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return 0;
    size_t head = end + 4 - c->buffer;
    *end = 0;
    char *length = strcasestr(c->buffer, "\ncontent-length:");
    int chunked = strcasestr(c->buffer, "\ntransfer-encoding:") != NULL;
    *end = '\r';
    if (chunked) {
        int complete = c->used >= head + 5 && !memcmp(c->buffer + c->used - 5, "0\r\n\r\n", 5);
        *body = c->used - head;
        return complete ? c->used : 0;
    }
    *body = length ? strtoul(length + 16, NULL, 10) : 0;
    return c->used >= head + *body ? head + *body : 0;
}

static void respond(int fd, size_t body) {
    char *path = strchr(connections[fd].buffer, ' ');
    if (path && !strncmp(path, " /control/delay/", 16)) {
        const long next = strtol(path + 16, NULL, 10);
        delay_ms = 0;
        answer(fd, &accepted);
        delay_ms = next;
        return;
    }
    char *line = strstr(connections[fd].buffer, "\r\n");
    char *chat = strstr(connections[fd].buffer, "/chat/completions");
    answer(fd, &answers[!(chat && chat < line)][body >= large / 2]);
}

static void receive(int fd) {
    struct connection *c = &connections[fd];
    size_t body;
    ssize_t n = read(fd, c->buffer + c->used, BUFFER - 1 - c->used);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { close_connection(fd); return; }
    c->used += n;
    if (!c->pending && request_length(c, &body)) respond(fd, body);
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD) { close(fd); continue; }
        int one = 1;
        struct connection *c = &connections[fd];
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!c->buffer) c->buffer = malloc(BUFFER);
        c->used = 0;
        c->pending = NULL;
        c->open = 1;
        struct epoll_event e = {EPOLLIN, {.fd = fd}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    }
}

static void answer_due(void) {
    uint64_t expirations;
    if (read(timer, &expirations, sizeof expirations) < 0) return;
    int64_t now = now_ns();
    while (queue_head != queue_tail && queue[queue_head % MAX_FD].at <= now) {
        struct due *first = &queue[queue_head++ % MAX_FD];
        if (connections[first->fd].open && connections[first->fd].generation == first->generation) send_answer(first->fd);
    }
    arm_timer();
}

int main(int count, char **arguments) {
    if (count != 3) { fputs("fake_upstream SMALL LARGE\n", stderr); return 2; }
    const size_t sizes[2] = {strtoul(arguments[1], NULL, 10), strtoul(arguments[2], NULL, 10)};
    large = sizes[1];
    for (int i = 0; i < 2; i++) {
        answers[0][i] = make_answer(
            "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\",\"choices\":[{\"index\":0,"
            "\"message\":{\"role\":\"assistant\",\"content\":\"",
            "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":20,\"total_tokens\":40}}", sizes[i]);
        answers[1][i] = make_answer("{\"result\":{\"completion\":\"", "\"}}", sizes[i]);
    }
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event l = {EPOLLIN, {.fd = listener}}, t = {EPOLLIN, {.fd = timer}}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &l);
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &t);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(listener);
            else if (fd == timer) answer_due();
            else {
                if (events[i].events & EPOLLOUT && connections[fd].pending) send_answer(fd);
                if (connections[fd].open && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(fd);
            }
        }
    }
}
