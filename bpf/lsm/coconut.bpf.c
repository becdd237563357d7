// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Coconut's policy in the kernel, compiled as one object: one file per family of hooks, in the
 * order in which they lean on one another.
 *
 * Every program first asks who acts (agent.h). For an agent it asks what covers the object
 * (cover.h) and reports what was decided (report.h); for anybody else it asks the seal.
 */
#include "../include/kernel.h"
#include "../include/coconut_abi.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "maps.h"
#include "agent.h"
#include "report.h"
#include "counted.h"
#include "cover.h"
#include "uses.h"
#include "moves.h"
#include "own.h"
#include "seal.bpf.c"
#include "identity.bpf.c"
#include "kept.bpf.c"
#include "proc.h"
#include "files.bpf.c"
#include "names.bpf.c"
#include "daemon.bpf.c"
#include "exec.bpf.c"
#include "unix.bpf.c"
#include "net.bpf.c"
#include "egress.bpf.c"
#include "tasks.bpf.c"
#include "forbidden.bpf.c"
#include "tcp_peers.bpf.c"
