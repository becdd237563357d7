/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs remember: who is an agent, what it may do, what was decided. */
#pragma once

/* Switches; mapped into the daemon. */
volatile struct Policy policy;

/* An agent is a cgroup with a value here. */
struct {
	__uint(type, BPF_MAP_TYPE_CGRP_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct KernelAgent);
} agents SEC(".maps");

/* The daemon's thread-group leader has a value here; it is set through a pidfd, so that a reused
 * process id is not the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} daemons SEC(".maps");

/*
 * Rights are held by set: an agent has a list, the list names sets, a set has entries in the maps of
 * capabilities. Sets and lists have numbers that are never used again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u64);
	__type(value, struct RightsList);
} lists SEC(".maps");

/* Files that some set has a rule on; the daemon keeps each open while it is in here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct FileKey);
	__type(value, __u64);
} files SEC(".maps");

/* What is known of each, by its number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 18);
	__type(key, __u32);
	__type(value, struct FileNode);
} file_nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct GrantKey);
	__type(value, struct Grant);
} fs_caps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct NetKey);
	__type(value, struct Grant);
} net_caps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, struct AbstractKey);
	__type(value, struct Grant);
} unix_abstract_caps SEC(".maps");

/* Rules that may be used so often and no more, and how often they may still be. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct CountedKey);
	__type(value, struct Counted);
} counted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, struct UseCounter);
} counters SEC(".maps");

/* Open files that were got by a use, by their address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, __u64);
	__type(value, struct TakenFile);
} taken SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct PlainKey);
	__type(value, struct Grant);
} plain_caps SEC(".maps");

/* Who made whom: an agent's id to its parent's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 15);
	__type(key, __u64);
	__type(value, __u64);
} parents SEC(".maps");

/* The last verdict on an open file, by a hash of its address. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OPENED_SLOTS);
	__type(key, __u32);
	__type(value, struct OpenedFile);
} opened_files SEC(".maps");

/* What is known of an agent's socket beyond what the kernel keeps. */
struct socket_note {
	/* Who connected it. */
	__u64 owner;
	/* The list of rights at the last positive check of its peer; zero for none. */
	__u64 checked;
	/* It was connected by its owner, not accepted. */
	__u16 outgoing;
	/* Where the last unconnected datagram went; recvmsg asks for the same right. */
	__u16 last_port;
	__u8 last_addr[16];
	/* The client's port while connected: the kernel forgets it before it tells of the end. */
	__u16 local_port;
	/* The file whose rule let the agent connect it, as in `kept`; 0 for none. */
	__u32 via;
	/* The lists of rights at the last packet that might leave, and at the last that might not; zero for none. */
	__u64 left;
	__u64 stopped;
	/* The uses that it was connected and bound by; of a UNIX socket, which other one that was to. */
	__u64 joined;
	struct Taken connected;
	struct Taken bound;
};
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_note);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 19);
	__type(key, struct TcpPeerKey);
	__type(value, __u64);
} tcp_peers SEC(".maps");

/* How many of those are an agent's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 15);
	__type(key, __u64);
	__type(value, __u32);
} peer_counts SEC(".maps");

/*
 * The kernel's numbers of the file that a thread of the daemon looks at: it puts an empty entry
 * under its own number before, and takes it away behind.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct Resolved);
} resolved SEC(".maps");

/* A refusal that may turn out to be none; see path_mknod. */
struct suspect {
	/* As for report.h; zero for none. */
	__u64 what;
	__u64 dev;
	__u32 length;
	__u32 reserved;
	__u64 text[32];
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct suspect);
} suspects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} events SEC(".maps");

/* Processes that were stopped because the ring was nearly full: thread-group id to agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 15);
	__type(key, __u32);
	__type(value, __u64);
} throttled SEC(".maps");

/* Per CPU: events made, events that found no room; what leaves on the wire is counted apart, for it interrupts. */
struct tally {
	__u64 sequence;
	__u64 lost;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

/* What ends the time that agents may run without a daemon. */
struct watch {
	struct bpf_timer timer;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct watch);
} watches SEC(".maps");

/* Processes that are to stop because there is no daemon, by thread-group id: each does it itself. */
struct stop {
	struct bpf_task_work work;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, __u32);
	__type(value, struct stop);
} stops SEC(".maps");

/* What agents have by rules on files, that outlives those. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct KeptKey);
	__type(value, __u64);
} kept SEC(".maps");

/* What a task is about in this call: the first of two files was decided, and by which rules. */
struct errand {
	/* The agent's list then. */
	__u64 list;
	/* As in `kept`; 0 for no errand. */
	__u32 by;
	__u32 kind;
	/* The name that was to be made by a use, and the use and its rule: opening the file is part of it. */
	__u64 made;
	__u64 use_ruling;
	struct Taken use;
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct errand);
} errands SEC(".maps");

/* Where names are put together, with room behind for one more component. */
struct scratch {
	union {
		char text[768];
		__u64 words[96];
	};
	/* The dentries whose names those are, from the last to the first. */
	__u64 names[16];
	__u32 count;
	__u32 length;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");
