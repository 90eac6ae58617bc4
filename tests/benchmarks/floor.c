/* The floor: what sending costs when nothing else is done. One thread sends the same chunk to every open connection.
 *
 * floor PORT CHANGES_A_SECOND (0: without a pause). Each connection is answered with the headers of an event stream.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME 360

static int streams[200000];
static int number;

static long long nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int chunk(char *buffer) {
    char frame[FRAME + 1];
    int length = snprintf(frame, sizeof frame, "id: 1\ndata: at=%lld ", nanoseconds());
    memset(frame + length, 'x', FRAME - length);
    memcpy(frame + FRAME - 2, "\n\n", 2);
    length = sprintf(buffer, "%x\r\n", FRAME);
    memcpy(buffer + length, frame, FRAME);
    memcpy(buffer + length + FRAME, "\r\n", 2);
    return length + FRAME + 2;
}

static void take(int listener) {
    static const char headers[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    char buffer[8192];
    int fd, small = 16384, yes = 1, length = chunk(buffer + sizeof headers - 1);
    memcpy(buffer, headers, sizeof headers - 1);
    while ((fd = accept4(listener, NULL, NULL, 0)) >= 0) {
        char request[8192];
        if (recv(fd, request, sizeof request, 0) <= 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        send(fd, buffer, sizeof headers - 1 + length, 0);
        streams[number++] = fd;
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    double pause = atof(arguments[2]) > 0 ? 1e9 / atof(arguments[2]) : 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return 1;
    fcntl(listener, F_SETFL, O_NONBLOCK);
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (long long due = nanoseconds();;) {
        long long left = due - nanoseconds();
        if (epoll_wait(poller, &event, 1, left > 0 ? left / 1000000 : 0) > 0) take(listener);
        if (nanoseconds() < due) continue;
        char buffer[1024];
        int length = chunk(buffer);
        for (int i = 0; i < number; i++) send(streams[i], buffer, length, MSG_DONTWAIT);
        due = pause ? due + pause : 0;
        if (!number) usleep(1000);
    }
}
