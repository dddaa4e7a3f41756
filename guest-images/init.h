/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of init. */
#ifndef INIT_H
#define INIT_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest.h"
#include "workload.h"

/* The linker's bounds of the section that WORKLOAD() puts descriptions in. */
extern const struct workload __start_workloads[], __stop_workloads[];

/* setup.c: from a bare kernel to a guest that workloads can run in. */
void say(const char *text);
void say_error(const char *what);
void mount_all(void);
void load_modules(void);
const char *swap_device(void);
int make_swap(const char *disk);
void set_tunables(void);
pid_t anchor_ksmd(int *error);

/* devices.c: nodes in /dev, and the open journal's port or -1. */
void make_nodes(void);
int open_port(void);

/* settings.c: what this guest is to be that others are not. */
const char *setting(const char *key, const char *fallback);
bool setting_is(const char *key, const char *value);
void lacks(const char *format, ...) __attribute__((format(printf, 1, 2)));
void j_settings(void);

/* hello.c: what init tells the host of the guest and its kernel. */
void say_hello(void);
void j_clock(void);
void send_dmesg(void);

/* reset.c: the same beginning for each workload. */
bool kill_rest(pid_t anchor);
bool reset(const char *next, pid_t anchor);

#endif
