// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Internet sockets: which may exist, whom they may reach, where they may listen. */

#define V4_MAPPED 0xffff0000u /* ::ffff:0:0/96, third word, little endian */

static __always_inline void put_v4(__u8 *to, __be32 addr)
{
	__u32 *words = (__u32 *)to;

	words[0] = words[1] = 0;
	words[2] = V4_MAPPED;
	words[3] = addr;
}

static __always_inline void net_key(struct NetKey *k, __u16 op)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->op = op;
}

/* One set and one port exactly; a longer prefix that does not count must not hide a shorter one that does. */
static __always_inline __u64 net_lookup(struct NetKey *k, __u32 want)
{
	int i;

	k->prefix_len = NET_KEY_FIXED_BITS + 128;
	bpf_for(i, 0, 8) {
		struct Grant *g = bpf_map_lookup_elem(&net_caps, k);
		__u32 prefix;

		if (!g)
			return 0;
		if (!over(g) && counts_for(k->set, g, want))
			return 1 | (g->expires_ns ? COVER_EXPIRES : 0) | ruling(k->set, g->rule);
		prefix = g->rights >> NET_PREFIX_SHIFT & 0xff;
		if (!prefix || prefix > 128)
			return 0;
		k->prefix_len = NET_KEY_FIXED_BITS + prefix - 1;
	}
	return 0;
}

/* Every set of the list: the port itself, then any port. `want` says which counted rules count (counted.h). A global function, verified once. */
__noinline __u64 net_cover(__u64 list, struct NetKey *k __arg_nonnull, __u32 want)
{
	struct RightsList *l = bpf_map_lookup_elem(&lists, &list);
	__u16 port = k->port;
	__u64 cover = 0;
	int i;

	if (!l || !l->net)
		return 0;
	bpf_for(i, 0, LIST_SETS) {
		if (i >= l->count)
			break;
		if (!(l->net & 1u << i))
			continue;
		k->set = l->sets[i];
		cover = net_lookup(k, want);
		if (!cover && port) {
			k->port = 0;
			cover = net_lookup(k, want);
			k->port = port;
		}
		if (cover)
			break;
	}
	k->set = 0;
	return cover;
}

/* What needs no narrower scope: PLAIN_*. A global function, verified once. */
__noinline __u64 plain_cover(__u64 list, __u32 what)
{
	struct RightsList *l = bpf_map_lookup_elem(&lists, &list);
	struct PlainKey k = { .what = what };
	int i;

	if (!l)
		return 0;
	bpf_for(i, 0, LIST_SETS) {
		struct Grant *g;

		if (i >= l->count)
			break;
		k.set = l->sets[i];
		g = bpf_map_lookup_elem(&plain_caps, &k);
		if (g && !over(g))
			return 1 | ruling(k.set, g->rule);
	}
	return 0;
}

/* An address of the caller into the key; AF_UNSPEC means IPv4 where `unspec` is set. */
static __noinline int read_address(struct NetKey *k, const void *from, int length, bool unspec)
{
	struct sockaddr_in6 in = {};

	if (length < (int)sizeof(__u16) + 2)
		return AF_UNSPEC;
	bpf_probe_read_kernel(&in, sizeof(struct sockaddr_in) + 8, from);
	if (in.sin6_family == AF_INET6) {
		if (length < 24)
			return -EINVAL;
		bpf_probe_read_kernel(&in, sizeof(in), from);
		__builtin_memcpy(k->addr, in.sin6_addr, 16);
		k->port = __builtin_bswap16(in.sin6_port);
		return AF_INET6;
	}
	if (in.sin6_family == AF_INET || (in.sin6_family == AF_UNSPEC && unspec)) {
		put_v4(k->addr, ((struct sockaddr_in *)&in)->sin_addr);
		k->port = __builtin_bswap16(in.sin6_port);
		return AF_INET;
	}
	return in.sin6_family;
}

static __always_inline bool is_inet(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return family == AF_INET || family == AF_INET6;
}

static __always_inline void peer_key(struct NetKey *k, struct sock *sk)
{
	k->port = __builtin_bswap16(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET)
		put_v4(k->addr, sk->__sk_common.skc_daddr);
	else
		BPF_CORE_READ_INTO(&k->addr, sk, __sk_common.skc_v6_daddr);
}

static __always_inline void local_key(struct NetKey *k, struct sock *sk)
{
	k->port = sk->__sk_common.skc_num;
	if (sk->__sk_common.skc_family == AF_INET)
		put_v4(k->addr, sk->__sk_common.skc_rcv_saddr);
	else
		BPF_CORE_READ_INTO(&k->addr, sk, __sk_common.skc_v6_rcv_saddr);
}

/* The right to listen on a port of every address covers what arrives at any one. */
static __always_inline __u64 local_cover(struct KernelAgent *a, const struct NetKey *local, __u32 want)
{
	struct NetKey k = *local;
	__u64 cover = net_cover(a->list, &k, want);

	if (!cover) {
		put_v4(k.addr, 0);
		cover = net_cover(a->list, &k, want);
	}
	if (!cover) {
		__builtin_memset(k.addr, 0, sizeof(k.addr));
		cover = net_cover(a->list, &k, want);
	}
	return cover;
}

/*
 * What a socket was connected or bound by is still a use of a rule that covers where it is. Whether that rule expires
 * is asked anew each time: as if it did.
 */
static __noinline __u64 connected_by_use(struct KernelAgent *a, struct socket_note *note, struct NetKey *to)
{
	if (!any_counted() || !note || !still_counts(list_now(a), &note->connected) ||
	    !net_cover(list_now(a), to, WANT_COUNTED))
		return 0;
	return 1 | COVER_EXPIRES;
}

static __noinline __u64 bound_by_use(struct KernelAgent *a, struct socket_note *note, const struct NetKey *local)
{
	if (!any_counted() || !note || !still_counts(list_now(a), &note->bound) ||
	    !local_cover(a, local, WANT_COUNTED))
		return 0;
	return 1 | COVER_EXPIRES;
}

SEC("lsm/socket_create")
int BPF_PROG(socket_create, int family, int type, int protocol, int kern)
{
	struct KernelAgent *a;
	struct NetKey k;

	if (kern)
		return 0;
	a = current_agent();
	if (!a)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, family), 0);
	if (family == AF_UNIX || (family == AF_NETLINK && protocol == NETLINK_ROUTE))
		return 0;
	net_key(&k, 0);
	if (family == AF_INET || family == AF_INET6) {
		if (type == SOCK_STREAM && (!protocol || protocol == IPPROTO_TCP))
			return 0;
		if (type == SOCK_DGRAM && (!protocol || protocol == IPPROTO_UDP))
			return 0;
		if (plain_cover(a->list, PLAIN_NET_RAW))
			return 0;
	} else if (family == 17 /* AF_PACKET */ && plain_cover(a->list, PLAIN_NET_RAW)) {
		return 0;
	}
	return report_address(a, &k, type, DENIAL(SOCKET_CREATE, family), 0);
}

/* The last one that it went to, and the connection to that has not ended: a call that waits for it asks once more. */
static __always_inline bool goes_on(struct socket *sock, struct sock *sk, const struct socket_note *note,
				    const struct NetKey *k)
{
	const __u32 *last = (const __u32 *)note->last_addr, *to = (const __u32 *)k->addr;

	return note->last_port == k->port && last[0] == to[0] && last[1] == to[1] && last[2] == to[2] &&
	       last[3] == to[3] && (sock->type != SOCK_STREAM || sk->__sk_common.skc_state != TCP_CLOSE);
}

/* A use for a connection, or for datagrams to one address: its rule, or 0. */
static __noinline __u64 connect_by_use(struct KernelAgent *a, struct socket_note *note, struct NetKey *k)
{
	__u64 by = any_counted() ? ruling_of(net_cover(list_now(a), k, WANT_LEFT)) : 0;

	return by && take_ruled(by, &note->connected) ? by : 0;
}

static __noinline __u64 bind_by_use(struct KernelAgent *a, struct sock *sk, const struct NetKey *k)
{
	__u64 by = any_counted() ? ruling_of(local_cover(a, k, WANT_LEFT)) : 0;
	struct socket_note *note = by ? note_of(sk, BPF_LOCAL_STORAGE_GET_F_CREATE) : NULL;

	return note && take_ruled(by, &note->bound) ? by : 0;
}

/* A use that could not be recorded did not happen. */
static __always_inline int recorded_use(struct Taken *t, int verdict)
{
	if (verdict) {
		give_back(t);
		t->id = 0;
	}
	return verdict;
}

/* Decides about an address that the caller names. */
static __always_inline int decide_connect(struct KernelAgent *a, struct socket *sock,
					  struct sock *sk, struct NetKey *k, int family,
					  __u64 hook_denial, __u64 hook_use)
{
	struct socket_note *note = note_of(sk, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u64 cover = net_cover(a->list, k, 0), used = 0;

	hook_denial |= (__u64)family << 32;
	if (note && !cover && goes_on(sock, sk, note, k))
		cover = connected_by_use(a, note, k);
	if (note && !cover)
		used = connect_by_use(a, note, k);
	if (!note || !(cover | used))
		return report_address(a, k, sock->type, hook_denial, 0);
	note->owner = a->aid;
	note->checked = 0;
	note->last_port = k->port;
	__builtin_memcpy(note->last_addr, k->addr, 16);
	if (hook_use)
		note->outgoing = 1;
	if (used)
		return recorded_use(&note->connected, report_address(a, k, sock->type, as_use(hook_denial), used));
	return hook_use ? report_address(a, k, sock->type, hook_use | (__u64)family << 32, ruling_of(cover)) : 0;
}

/* Takes back what a datagram socket was connected to. Of a stream tcp_peers still has to hear that it was one. */
static __always_inline int disconnects(struct sock *sk)
{
	struct socket_note *note = note_of(sk, 0);

	if (note)
		note->outgoing = 0;
	return 0;
}

/*
 * A datagram socket that is connected to port 0 sends nothing yet: getaddrinfo() does so with each address that it
 * found, to see by which of its own it would be reached (RFC 6724). What is sent then is decided (recheck_socket).
 */
static __always_inline int asks_for_route(struct KernelAgent *a, struct sock *sk)
{
	struct socket_note *note = note_of(sk, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!note)
		return -EACCES;
	note->owner = a->aid;
	note->checked = 0;
	note->outgoing = 1;
	return 0;
}

SEC("lsm/socket_connect")
int BPF_PROG(socket_connect, struct socket *sock, struct sockaddr *address, int length)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = sock->sk;
	struct NetKey k;
	int family;

	if (!a || !sk)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (!is_inet(sk))
		return 0;
	net_key(&k, NET_CONNECT);
	family = read_address(&k, address, length, false);
	if (family == AF_UNSPEC)
		return sock->type == SOCK_DGRAM ? disconnects(sk) : 0;
	if (sock->type == SOCK_DGRAM && !k.port)
		return asks_for_route(a, sk);
	return decide_connect(a, sock, sk, &k, family, DENIAL(SOCKET_CONNECT, 0),
			      USE(SOCKET_CONNECT, 0));
}

SEC("lsm/socket_bind")
int BPF_PROG(socket_bind, struct socket *sock, struct sockaddr *address, int length)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = sock->sk;
	__u64 cover, used;
	struct NetKey k;
	int family;

	if (!a || !sk)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (sk->__sk_common.skc_family == AF_UNIX)
		return decide_abstract(a, address, length);
	if (!is_inet(sk))
		return 0;
	net_key(&k, NET_BIND);
	family = read_address(&k, address, length, true);
	if (!k.port)
		return 0; /* any free port, as connect() takes one; listen() is asked about it */
	cover = net_cover(a->list, &k, 0);
	used = cover ? 0 : bind_by_use(a, sk, &k);
	if (!(cover | used))
		return report_address(a, &k, sock->type, DENIAL(SOCKET_BIND, family), 0);
	return report_address(a, &k, sock->type, USE(SOCKET_BIND, family), used ?: ruling_of(cover));
}

/* Listening and accepting need the right to the socket's own address. One that was not bound is, as it listens. */
static __always_inline int decide_local(struct KernelAgent *a, struct socket *sock,
					struct sock *sk, __u64 what)
{
	struct NetKey k;
	__u64 used;

	net_key(&k, NET_BIND);
	local_key(&k, sk);
	if (local_cover(a, &k, 0) || bound_by_use(a, note_of(sk, 0), &k))
		return 0;
	used = (__u8)(what >> 8) == HOOK_SOCKET_LISTEN ? bind_by_use(a, sk, &k) : 0;
	return report_address(a, &k, sock->type, used ? as_use(what) : what, used);
}

static __always_inline int serves(struct socket *sock, __u64 what)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = sock->sk;

	if (!a || !sk)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (!is_inet(sk))
		return 0;
	return decide_local(a, sock, sk, what | (__u64)sk->__sk_common.skc_family << 32);
}

SEC("lsm/socket_listen")
int BPF_PROG(socket_listen, struct socket *sock, int backlog)
{
	return serves(sock, DENIAL(SOCKET_LISTEN, 0));
}

SEC("lsm/socket_accept")
int BPF_PROG(socket_accept, struct socket *sock, struct socket *fresh)
{
	return serves(sock, DENIAL(SOCKET_ACCEPT, 0));
}

/*
 * The right that carries an existing socket: to its peer if the agent connected it, to its own
 * address if it was accepted or bound, to the last receiver if it sends datagrams unconnected.
 */
static __always_inline int recheck_socket(struct KernelAgent *a, struct socket *sock,
					  struct sock *sk, __u64 what)
{
	struct socket_note *note = note_of(sk, 0);
	__u16 peer_port = sk->__sk_common.skc_dport;
	struct NetKey k;
	__u64 cover;

	what |= (__u64)sk->__sk_common.skc_family << 32;
	if (note && peer_port && note->checked == a->list)
		return 0;
	if (peer_port && (!note || !note->outgoing)) {
		net_key(&k, NET_BIND);
		local_key(&k, sk);
		/* Accepting it took no use: that was to listen. */
		cover = local_cover(a, &k, WANT_COUNTED);
	} else if (peer_port || (note && note->outgoing && sock->type == SOCK_DGRAM)) {
		net_key(&k, NET_CONNECT);
		peer_key(&k, sk);
		cover = net_cover(a->list, &k, 0) ?: connected_by_use(a, note, &k);
	} else if (sock->type == SOCK_STREAM) {
		return 0; /* not connected: the kernel refuses by itself */
	} else {
		net_key(&k, NET_BIND);
		local_key(&k, sk);
		cover = local_cover(a, &k, 0) ?: bound_by_use(a, note, &k);
		if (!cover && note && note->last_port) {
			net_key(&k, NET_CONNECT);
			k.port = note->last_port;
			__builtin_memcpy(k.addr, note->last_addr, 16);
			cover = net_cover(a->list, &k, 0) ?: connected_by_use(a, note, &k);
		}
	}
	if (!cover)
		return report_address(a, &k, sock->type, what, 0);
	if (peer_port && !(cover & COVER_EXPIRES)) {
		note = note ?: note_of(sk, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (note)
			note->checked = a->list;
	}
	return 0;
}

/*
 * Options by which a packet takes another way than to the address that was decided: source routes of IPv4
 * (RFC 791), routing headers of IPv6 (RFC 8200, 8754), and what can carry them.
 */
static __always_inline bool reroutes(int level, int name)
{
	if (level == IPPROTO_IP)
		return name == IP_OPTIONS || name == IP_RETOPTS;
	return level == IPPROTO_IPV6 && (name == IPV6_RTHDR || name == IPV6_2292RTHDR ||
					 name == IPV6_2292PKTOPTIONS || name == IPV6_FLOWLABEL_MGR);
}

SEC("lsm/socket_setsockopt")
int BPF_PROG(socket_setsockopt, struct socket *sock, int level, int name)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = sock->sk;

	if (!a || !sk)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (is_inet(sk) && reroutes(level, name))
		return report_plain(a, FORBIDDEN(SOCKET_SETSOCKOPT, name), 0);
	return 0;
}

/* Control messages of one call that are looked at; who sends more is refused. */
#define CONTROLS_MAX 32

struct control_head {
	__u64 length;
	int level;
	int type;
};

/* The same options beside a message; the kernel has copied them by now. A global function, verified once. */
__noinline int control_reroutes(__u64 at, __u64 left)
{
	int i;

	bpf_for(i, 0, CONTROLS_MAX) {
		struct control_head head;
		__u64 step;

		if (left < sizeof(head))
			return 0;
		if (bpf_probe_read_kernel(&head, sizeof(head), (void *)at))
			return 1;
		if (reroutes(head.level, head.type))
			return 1;
		step = (head.length + 7) & ~7ull;
		/* The kernel refuses such a message by itself. */
		if (head.length < sizeof(head) || step >= left)
			return 0;
		at += step;
		left -= step;
	}
	return 1;
}

/* Addresses beside the first of an association; such sockets are for who may send anything. */
SEC("lsm/sctp_bind_connect")
int BPF_PROG(sctp_bind_connect, struct sock *sk, int option, struct sockaddr *address, int length)
{
	struct KernelAgent *a = current_agent();

	if (!a || plain_cover(a->list, PLAIN_NET_RAW))
		return 0;
	return report_plain(a, DENIAL(SCTP_BIND_CONNECT, option), 0);
}

SEC("lsm/socket_sendmsg")
int BPF_PROG(socket_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = sock->sk;
	struct NetKey k;
	int family;

	if (!a || !sk)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (unlikely(msg->msg_flags & MSG_ZEROCOPY))
		flag_agent(FLAG_PINS);
	if (sk->__sk_common.skc_family == AF_UNIX)
		return recheck_unix(a, sk, DENIAL(SOCKET_SENDMSG, AF_UNIX));
	if (!is_inet(sk))
		return 0;
	if (unlikely(msg->msg_controllen) && control_reroutes(address_of(msg->msg_control), msg->msg_controllen))
		return report_plain(a, FORBIDDEN(SOCKET_SENDMSG, 0), 0);
	/* An address in the message: a datagram, or TCP that connects as it sends. */
	if (msg->msg_name && msg->msg_namelen &&
	    (sock->type != SOCK_STREAM || (msg->msg_flags & MSG_FASTOPEN))) {
		net_key(&k, NET_CONNECT);
		family = read_address(&k, msg->msg_name, msg->msg_namelen,
				      sk->__sk_common.skc_family == AF_INET);
		if (family != AF_UNSPEC)
			return decide_connect(a, sock, sk, &k, family, DENIAL(SOCKET_SENDMSG, 0),
					      sock->type == SOCK_STREAM ? USE(SOCKET_SENDMSG, 0) : 0);
	}
	return recheck_socket(a, sock, sk, DENIAL(SOCKET_SENDMSG, 0));
}

SEC("lsm/socket_recvmsg")
int BPF_PROG(socket_recvmsg, struct socket *sock, struct msghdr *msg, int size, int flags)
{
	struct KernelAgent *a = current_agent();
	struct sock *sk = sock->sk;

	if (!a || !sk)
		return 0;
	if (unlikely(quarantined(a)))
		return report_plain(a, DENIAL(QUARANTINE, 0), 0);
	if (sk->__sk_common.skc_family == AF_UNIX) {
		struct socket_note *note = note_of(sk, 0);

		/* Descriptors come with the message (file_receive). */
		if (!set_errand(a, note ? note->via : 0, KEPT_DESCRIPTOR))
			return report_plain(a, DENIAL(SOCKET_RECVMSG, AF_UNIX), 0);
		return recheck_unix(a, sk, DENIAL(SOCKET_RECVMSG, AF_UNIX));
	}
	if (!is_inet(sk))
		return 0;
	return recheck_socket(a, sock, sk, DENIAL(SOCKET_RECVMSG, 0));
}
