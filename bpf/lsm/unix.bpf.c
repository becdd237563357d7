// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* UNIX sockets of others, by path and by abstract name. */

#define SUN_PATH_OFFSET 2

/* What is known of a socket; `flags` may ask to make the note. */
static __always_inline struct socket_note *note_of(struct sock *sk, __u64 flags)
{
	return bpf_sk_storage_get(&sockets, sk, NULL, flags);
}

/* The agent's own socket: made by a task of the same cgroup. */
static __always_inline bool same_agent(struct sock *other)
{
	struct cgroup *mine = bpf_get_current_task_btf()->cgroups->dfl_cgrp;

	return as(sock, other)->sk_cgrp_data.cgroup == mine;
}

/* The abstract name in an address; 0 for none. The empty one is a name, too. */
static __always_inline int read_abstract(struct AbstractKey *k, const void *from, int length)
{
	if (length <= SUN_PATH_OFFSET || length > SUN_PATH_OFFSET + 1 + ABSTRACT_NAME_MAX)
		return 0;
	k->len = length - SUN_PATH_OFFSET - 1;
	if (k->len)
		bpf_probe_read_kernel(k->name, k->len & 127 ?: 1, from + SUN_PATH_OFFSET + 1);
	return 1;
}

/* The abstract name of a bound socket; 0 for none. */
static __always_inline int abstract_name(struct AbstractKey *k, struct unix_address *address)
{
	if (!address)
		return 0;
	return read_abstract(k, (void *)address + bpf_core_type_size(struct unix_address), address->len);
}

/* What the agent's sets say about an abstract name. A global function, verified once. */
__noinline __u64 abstract_cover(__u64 list, struct AbstractKey *k __arg_nonnull)
{
	struct RightsList *l = bpf_map_lookup_elem(&lists, &list);
	int i;

	if (!l || !l->abstracts)
		return 0;
	bpf_for(i, 0, LIST_SETS) {
		struct Grant *g;

		if (i >= l->count)
			break;
		if (!(l->abstracts & 1u << i))
			continue;
		k->set = l->sets[i];
		g = bpf_map_lookup_elem(&unix_abstract_caps, k);
		if (g && !over(g))
			return 1 | ruling(k->set, g->rule);
	}
	return 0;
}

/*
 * Whether the agent may talk to `other`. A socket without any name was handed over or made by
 * socketpair(): whoever holds the other end chose the agent.
 */
static __always_inline bool unix_cover(struct KernelAgent *a, struct sock *other,
				       struct AbstractKey *k, struct dentry **d, struct mount **m)
{
	struct unix_sock *u = as(unix_sock, other);

	*d = u->path.dentry;
	if (*d) {
		*m = mount_of(u->path.mnt);
		return enough(rights_of(cover_from(a, as(dentry, *d), *m, RIGHT_UNIX)), RIGHT_UNIX, 0);
	}
	if (!abstract_name(k, as(unix_address, u->addr)))
		return true;
	return abstract_cover(a->list, k);
}

/* By which rule on a file the agent talks to a socket, as in `kept`; 0 for one without a name. */
static __noinline __u32 via_of(struct KernelAgent *a, struct sock *other)
{
	struct unix_sock *u = as(unix_sock, other);
	struct dentry *d = u->path.dentry;
	struct AbstractKey k = {};
	struct found found = {};

	if (!d)
		return abstract_name(&k, as(unix_address, u->addr)) ? KEPT_BY_ABSTRACT : 0;
	walk(list_now(a), &found, as(dentry, d), mount_of(u->path.mnt), RIGHT_UNIX);
	return found.by == BY_NONE ? KEPT_BY_SEVERAL : found.by;
}

static __always_inline int decide_unix(struct KernelAgent *a, struct sock *other, __u64 what)
{
	struct AbstractKey k = {};
	struct dentry *d = NULL;
	struct mount *m = NULL;

	if (unix_cover(a, other, &k, &d, &m))
		return 0;
	if (d)
		return report_dentry(a, d, m, what);
	return report_abstract(a, &k, what, 0);
}

/* connect() and sendto() by path; the socket's path, not the one that was typed. */
SEC("lsm/unix_find")
int BPF_PROG(unix_find, const struct path *path, struct sock *other, int flags)
{
	struct KernelAgent *a = current_agent();
	__u64 cover;

	if (!a)
		return 0;
	if (unlikely(quarantined(a)))
		return report_path(a, path, DENIAL(QUARANTINE, 0), 0);
	if (same_agent(other))
		return 0;
	cover = cover_path(a, path, RIGHT_UNIX, 0);
	if (!enough(rights_of(cover), RIGHT_UNIX, 0))
		return report_path(a, path, DENIAL(UNIX_FIND, RIGHT_UNIX), 0);
	return report_path(a, path, USE(UNIX_FIND, RIGHT_UNIX), ruling_of(cover));
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(unix_stream_connect, struct sock *sock, struct sock *other, struct sock *fresh)
{
	struct KernelAgent *a = current_agent();
	struct AbstractKey k = {};
	struct socket_note *note;
	__u64 cover;

	if (!a)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (same_agent(other))
		return 0;
	note = note_of(sock, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (note) {
		note->owner = a->aid;
		note->outgoing = 1;
		note->checked = 0;
		note->via = via_of(a, other);
	}
	/* A path was decided in unix_find. */
	if (as(unix_sock, other)->path.dentry)
		return note ? 0 : -EACCES;
	if (!abstract_name(&k, as(unix_address, as(unix_sock, other)->addr)))
		return 0;
	cover = abstract_cover(a->list, &k);
	if (!note || !cover)
		return report_abstract(a, &k, DENIAL(UNIX_STREAM_CONNECT, AF_UNIX), 0);
	return report_abstract(a, &k, USE(UNIX_STREAM_CONNECT, AF_UNIX), ruling_of(cover));
}

/* Datagrams, connected or not; a path in the message has passed unix_find before. */
SEC("lsm/unix_may_send")
int BPF_PROG(unix_may_send, struct socket *sock, struct socket *other)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = other->sk, *mine = sock->sk;
	struct socket_note *note;
	__u32 via;

	if (!a || !sk || !mine)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (same_agent(sk))
		return 0;
	/* Who is sent something may answer, with a descriptor. Two that are written to are not told apart. */
	via = via_of(a, sk);
	note = note_of(mine, via ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (note)
		note->via = !note->via || note->via == via ? via : KEPT_BY_SEVERAL;
	else if (via)
		return report_plain(a, DENIAL(UNIX_MAY_SEND, AF_UNIX), 0);
	return decide_unix(a, sk, DENIAL(UNIX_MAY_SEND, AF_UNIX));
}

/*
 * A connection that the agent made lives as long as the right to the peer's name. The peer's cgroup
 * tells nothing here: the kernel makes that end of the connection in the name of who connects.
 */
static __always_inline int recheck_unix(struct KernelAgent *a, struct sock *sk, __u64 what)
{
	struct socket_note *note = note_of(sk, 0);
	struct sock *peer;

	if (!note || !note->outgoing || note->checked == a->list)
		return 0;
	peer = as(unix_sock, sk)->peer;
	if (!peer)
		return 0;
	return decide_unix(a, peer, what);
}

/*
 * A name of all is taken by who may use it. Else an agent could wait at the name of another, or of a service that
 * has not started yet. A path is made (path_mknod); a name that the kernel chooses is nobody's (autobind).
 */
static __always_inline int decide_abstract(struct KernelAgent *a, struct sockaddr *address, int length)
{
	struct AbstractKey k = {};
	__u64 cover;
	char first = 1;

	if (length <= SUN_PATH_OFFSET)
		return 0;
	bpf_probe_read_kernel(&first, sizeof(first), (void *)address + SUN_PATH_OFFSET);
	if (first || !read_abstract(&k, address, length))
		return 0;
	cover = abstract_cover(a->list, &k);
	if (!cover)
		return report_abstract(a, &k, DENIAL(SOCKET_BIND, AF_UNIX), 0);
	return report_abstract(a, &k, USE(SOCKET_BIND, AF_UNIX), ruling_of(cover));
}
