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

/* How long an address is that has an abstract name. The empty one is a name, too. */
static __always_inline bool has_abstract(int length)
{
	return length > SUN_PATH_OFFSET && length <= SUN_PATH_OFFSET + 1 + ABSTRACT_NAME_MAX;
}

/* The abstract name in an address; 0 for none. */
static __always_inline int read_abstract(struct AbstractKey *k, const void *from, int length)
{
	if (!has_abstract(length))
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
__noinline __u64 abstract_cover(__u64 list, struct AbstractKey *k __arg_nonnull, __u32 want)
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
		if (g && !over(g) && counts_for(k->set, g, want))
			return 1 | ruling(k->set, g->rule);
	}
	return 0;
}

/*
 * Whether the agent may talk to `other`. A socket without any name was handed over or made by
 * socketpair(): whoever holds the other end chose the agent.
 */
static __always_inline bool unix_cover(struct KernelAgent *a, struct sock *other,
				       struct AbstractKey *k, struct dentry **d, struct mount **m, __u32 want)
{
	struct unix_sock *u = as(unix_sock, other);

	*d = u->path.dentry;
	if (*d) {
		*m = mount_of(u->path.mnt);
		return enough(rights_of(cover_from(a, as(dentry, *d), *m, RIGHT_UNIX | want)), RIGHT_UNIX, 0);
	}
	if (!abstract_name(k, as(unix_address, u->addr)))
		return true;
	return abstract_cover(a->list, k, want);
}

/* By which rule on a file the agent talks to a socket, as in `kept`; 0 for one without a name. */
static __noinline __u32 via_of(struct KernelAgent *a, struct sock *other)
{
	struct unix_sock *u = as(unix_sock, other);
	struct unix_address *address = as(unix_address, u->addr);
	struct dentry *d = u->path.dentry;
	struct found found = {};

	if (!d)
		return address && has_abstract(address->len) ? KEPT_BY_ABSTRACT : 0;
	walk(list_now(a), &found, as(dentry, d), mount_of(u->path.mnt), RIGHT_UNIX | WANT_COUNTED);
	return found.by == BY_NONE ? KEPT_BY_SEVERAL : found.by;
}

/* The socket was connected by a use, or wrote by it to exactly this other one. */
static __noinline bool joined_by_use(struct KernelAgent *a, struct socket_note *note, struct sock *other, bool one)
{
	return any_counted() && note && (!one || note->joined == address_of(other)) &&
	       still_counts(list_now(a), &note->connected);
}

static __always_inline void join(struct socket_note *note, struct sock *other)
{
	note->joined = address_of(other);
}

/* A use for an abstract name; its rule, or 0. */
static __noinline __u64 name_by_use(struct KernelAgent *a, struct AbstractKey *k, struct Taken *t)
{
	__u64 by = any_counted() ? ruling_of(abstract_cover(list_now(a), k, WANT_LEFT)) : 0;

	return by && take_ruled(by, t) ? by : 0;
}

/* To talk to an abstract name by a use, or that refusal. */
static __noinline int join_by_use(struct KernelAgent *a, struct socket_note *note, struct sock *other,
				  struct AbstractKey *k, __u64 what)
{
	__u64 by = note ? name_by_use(a, k, &note->connected) : 0;
	int verdict;

	if (!by)
		return report_abstract(a, k, what, 0);
	join(note, other);
	verdict = report_abstract(a, k, as_use(what), by);
	if (verdict) {
		give_back(&note->connected);
		note->connected.id = 0;
	}
	return verdict;
}

/* What unix_find took a use for belongs to this socket. */
static __always_inline void found_by_use(struct socket_note *note, struct sock *other)
{
	struct errand *e = expected_use(other);

	if (!e)
		return;
	note->connected = e->use;
	join(note, other);
	e->use.id = 0;
}

/* `taking`: a use may be taken; a path has passed unix_find. */
static __always_inline int decide_unix(struct KernelAgent *a, struct sock *other, struct socket_note *note,
				       bool taking, __u64 what)
{
	struct AbstractKey k = {};
	struct dentry *d = NULL;
	struct mount *m = NULL;

	if (unix_cover(a, other, &k, &d, &m, 0) ||
	    (joined_by_use(a, note, other, taking) && unix_cover(a, other, &k, &d, &m, WANT_COUNTED)))
		return 0;
	if (d)
		return report_dentry(a, d, m, what, 0);
	return taking ? join_by_use(a, note, other, &k, what) : report_abstract(a, &k, what, 0);
}

/* A path is found by a use, for who connects to it or sends something there. */
static __noinline int find_by_use(struct KernelAgent *a, const struct path *path, struct sock *other)
{
	struct TakenFile t = {};
	__u64 by = change_by_use(a, path->dentry, mount_of(path->mnt), RIGHT_UNIX, &t);

	if (!by || !expect_use(other, &t.uses[0], by))
		return recorded(&t, report_path(a, path, DENIAL(UNIX_FIND, RIGHT_UNIX), 0));
	return recorded(&t, report_path(a, path, USE(UNIX_FIND, RIGHT_UNIX), by));
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
		return find_by_use(a, path, other);
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
		found_by_use(note, other);
	}
	/* A path was decided in unix_find. */
	if (as(unix_sock, other)->path.dentry)
		return note ? 0 : -EACCES;
	if (!abstract_name(&k, as(unix_address, as(unix_sock, other)->addr)))
		return 0;
	cover = abstract_cover(a->list, &k, 0);
	if (!note || !cover)
		return join_by_use(a, note, other, &k, DENIAL(UNIX_STREAM_CONNECT, AF_UNIX));
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
	if (note)
		found_by_use(note, sk);
	return decide_unix(a, sk, note, true, DENIAL(UNIX_MAY_SEND, AF_UNIX));
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
	return decide_unix(a, peer, note, false, what);
}

/*
 * A name of all is taken by who may use it. Else an agent could wait at the name of another, or of a service that
 * has not started yet. A path is made (path_mknod); a name that the kernel chooses is nobody's (autobind).
 */
static __always_inline int decide_abstract(struct KernelAgent *a, struct sockaddr *address, int length)
{
	struct AbstractKey k = {};
	struct Taken t = {};
	__u64 cover, used;
	char first = 1;
	int verdict;

	if (length <= SUN_PATH_OFFSET)
		return 0;
	bpf_probe_read_kernel(&first, sizeof(first), (void *)address + SUN_PATH_OFFSET);
	if (first || !read_abstract(&k, address, length))
		return 0;
	cover = abstract_cover(a->list, &k, 0);
	used = cover ? 0 : name_by_use(a, &k, &t);
	if (!(cover | used))
		return report_abstract(a, &k, DENIAL(SOCKET_BIND, AF_UNIX), 0);
	verdict = report_abstract(a, &k, USE(SOCKET_BIND, AF_UNIX), used ?: ruling_of(cover));
	if (verdict)
		give_back(&t);
	return verdict;
}
