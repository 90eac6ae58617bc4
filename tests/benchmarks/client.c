/* Holds many event streams over one epoll, counts their frames and how late they come.
 *
 * client PORT STREAMS PATHS HEADERS HOST: opens the streams (PATHS is a comma-separated list, used in turn) from the
 * HOST-th address of the loopback network, since each has ports for less than 28 000; says
 * "open SECONDS", then for each line "SECONDS" on its standard input measures for so long and answers
 * "frames N p50 US p99 US ended N". A frame has one line of data; its age is told by the digits after "at=",
 * nanoseconds of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OPENING_AT_ONCE 64
#define MOST_AGES 20000000

static int poller;
static long frames, closed_streams, ended_streams, opened;
static unsigned *ages;
static long aged;
static char *seen_data; /* by descriptor: 1 after the first frame, 2 after `done` */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int open_stream(int port, int host, const char *path, const char *headers) {
    struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET, .sin_port = htons(port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK + host);
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || connect(fd, (struct sockaddr *)&there, sizeof there)) {
        perror("connect");
        exit(1);
    }
    char request[8192];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%s\r\n",
                          path, headers);
    if (send(fd, request, length, 0) != length) {
        perror("send");
        exit(1);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    return fd;
}

static void count(const char *data, long length, double at) {
    const char *end = data + length;
    for (const char *p = data; (p = memmem(p, end - p, "\ndata:", 6)); p += 6) frames++;
    for (const char *p = data; (p = memmem(p, end - p, "at=", 3)); p += 3) {
        double age = at - strtoll(p + 3, NULL, 10) / 1e9;
        if (age >= 0 && age < 60 && aged < MOST_AGES) ages[aged++] = age * 1e6;
    }
}

static void read_all(int fd) {
    static char data[1 << 16];
    for (;;) {
        long length = recv(fd, data, sizeof data - 1, 0);
        if (length > 0) {
            data[length] = 0;
            if (!seen_data[fd] && memmem(data, length, "\ndata:", 6)) seen_data[fd] = 1, opened++;
            else if (!seen_data[fd] && memmem(data, length, "\n:", 2)) seen_data[fd] = 1, opened++;
            if (memmem(data, length, "event: done", 11)) seen_data[fd] = 2;
            count(data, length, now());
            if (length < (long)sizeof data - 1) return;
        } else if (length == 0 || errno != EAGAIN) {
            close(fd);
            closed_streams++;
            ended_streams += seen_data[fd] == 2;
            return;
        } else {
            return;
        }
    }
}

static void turn(int ms) {
    struct epoll_event events[1024];
    int ready = epoll_wait(poller, events, 1024, ms);
    for (int i = 0; i < ready; i++) read_all(events[i].data.fd);
}

static int in_order(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

static void measure(double seconds) {
    frames = aged = 0;
    for (double end = now() + seconds; now() < end;) turn(100);
    qsort(ages, aged, sizeof *ages, in_order);
    printf("frames %ld p50 %u p99 %u ended %ld\n", frames, aged ? ages[aged / 2] : 0, aged ? ages[aged * 99 / 100] : 0,
           ended_streams);
    fflush(stdout);
}

int main(int count_of, char **arguments) {
    if (count_of != 6) return 2;
    int port = atoi(arguments[1]), host = atoi(arguments[5]);
    long streams = atol(arguments[2]), asked = 0, paths = 1;
    char **path = calloc(strlen(arguments[3]) + 1, sizeof *path);
    path[0] = arguments[3];
    for (char *p = arguments[3]; *p; p++)
        if (*p == ',') *p = 0, path[paths++] = p + 1;
    poller = epoll_create1(0);
    ages = malloc(sizeof *ages * MOST_AGES);
    seen_data = calloc(1 << 21, 1);
    double started = now();
    while (opened < streams) {
        while (asked < streams && asked - opened < OPENING_AT_ONCE) {
            open_stream(port, host, path[asked % paths], arguments[4]);
            asked++;
        }
        turn(1000);
        if (now() - started > 300 || closed_streams) break;
    }
    printf("open %.6f opened %ld\n", now() - started, opened);
    fflush(stdout);
    char line[64];
    struct pollfd input = {.fd = 0, .events = POLLIN};
    for (;;) {
        if (poll(&input, 1, 0) > 0) {
            if (!fgets(line, sizeof line, stdin)) return 0;
            measure(atof(line));
        }
        turn(20);
    }
}
