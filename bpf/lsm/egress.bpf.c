// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What leaves on the wire: each packet of the sockets that an agent has made, by the same rules as the calls. What a
 * call left in a queue does not go on after the right has gone, and no option of a socket leads elsewhere.
 */

extern void bpf_local_irq_save(unsigned long *flags__irq_flag) __ksym;
extern void bpf_local_irq_restore(unsigned long *flags__irq_flag) __ksym;

#define PASS 1
#define DROP 0

/* Events of packets have sequences of their own: a packet leaves amid whatever this CPU is about. */
#define WIRE_CPUS (1u << 16)

struct packet {
	struct NetKey to;
	struct NetKey from;
	__u16 family;
	__u8 protocol;
	/* It carries nothing and opens nothing: an acknowledgement or an end. */
	bool empty;
	/* With options or headers that may lead it elsewhere, or of a protocol that has no ports here. */
	bool strange;
};

#define TCP_SYN 0x02

static __noinline int read_ports(struct __sk_buff *skb, struct packet *p, __u32 at)
{
	__u8 head[20];

	if (p->protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, at, head, 8))
			return -EINVAL;
	} else if (p->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, at, head, 20))
			return -EINVAL;
		p->empty = !(head[13] & TCP_SYN) && skb->len == at + (head[12] >> 4) * 4;
	} else {
		p->strange = true;
		return 0;
	}
	p->from.port = (__u16)head[0] << 8 | head[1];
	p->to.port = (__u16)head[2] << 8 | head[3];
	return 0;
}

/* RFC 791, RFC 8200: the fixed headers. */
static __noinline int read_packet(struct __sk_buff *skb, struct packet *p)
{
	__u8 head[40];
	__u32 addresses[2];

	if (bpf_skb_load_bytes(skb, 0, head, 20))
		return -EINVAL;
	net_key(&p->to, NET_CONNECT);
	net_key(&p->from, NET_BIND);
	if (head[0] >> 4 == 4) {
		p->family = AF_INET;
		p->protocol = head[9];
		p->strange = head[0] != 0x45;
		__builtin_memcpy(addresses, head + 12, 8);
		put_v4(p->from.addr, addresses[0]);
		put_v4(p->to.addr, addresses[1]);
		return read_ports(skb, p, (head[0] & 15) * 4);
	}
	if (bpf_skb_load_bytes(skb, 0, head, 40))
		return -EINVAL;
	p->family = AF_INET6;
	p->protocol = head[6];
	__builtin_memcpy(p->from.addr, head + 8, 16);
	__builtin_memcpy(p->to.addr, head + 24, 16);
	return read_ports(skb, p, 40);
}

/* Whoever runs on this CPU now has nothing to do with it: no process is named, and none is made to wait. */
static __noinline int report_wire(struct KernelAgent *a, struct packet *p)
{
	__u32 wire = 1;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &wire);
	__u64 what = DENIAL(EGRESS, 0);
	unsigned long flags;
	struct Event *e;

	if (!tally)
		return 0;
	__sync_fetch_and_add(&a->denials, 1);
	bpf_local_irq_save(&flags);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		__builtin_memset(e, 0, sizeof(*e));
		e->time_ns = bpf_ktime_get_boot_ns();
		e->aid = a->aid;
		e->sequence = tally->sequence;
		e->kind = (__u8)what;
		e->cpu = bpf_get_smp_processor_id() | WIRE_CPUS;
		e->hook = (__u8)(what >> 8);
		e->verdict = verdict_of(what);
		e->wanted = p->family;
		e->object_len = put_address((struct SockObject *)e->object, &p->to,
					    p->protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM, p->family);
		bpf_ringbuf_submit(e, 0);
	} else {
		tally->lost++;
	}
	tally->sequence++;
	bpf_local_irq_restore(&flags);
	return 0;
}

/* Once for each socket and each change of rights: what is tried again is the kernel's doing. */
static __always_inline int stopped(struct KernelAgent *a, struct socket_note *note, struct packet *p)
{
	__u64 list = quarantined(a) ? ~0ull : a->list;

	if (!note || note->stopped != list) {
		if (note) {
			note->stopped = list;
			note->left = 0;
		}
		report_wire(a, p);
	}
	return DROP;
}

static __always_inline int decide_packet(struct KernelAgent *a, struct __sk_buff *skb,
					 struct socket_note *note)
{
	struct packet p = {};
	__u64 cover;

	if (read_packet(skb, &p))
		return stopped(a, note, &p);
	if (p.empty && !p.strange)
		return PASS;
	if (unlikely(quarantined(a)))
		return stopped(a, note, &p);
	if (note && note->left == a->list && p.protocol == IPPROTO_TCP && !p.strange)
		return PASS;
	if (!p.strange) {
		cover = net_cover(a->list, &p.to, WANT_COUNTED) ?: local_cover(a, &p.from, WANT_COUNTED);
		if (cover) {
			if (note && !(cover & COVER_EXPIRES))
				note->left = a->list;
			return PASS;
		}
	}
	return plain_cover(a->list, PLAIN_NET_RAW) ? PASS : stopped(a, note, &p);
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct socket_note *note = NULL;
	struct KernelAgent *a = NULL;
	struct cgroup *c;
	int verdict;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk)
		note = bpf_sk_storage_get(&sockets, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	c = bpf_cgroup_from_id(bpf_skb_cgroup_id(skb));
	/* The agent has ended; what was in order until then goes on, as for any process. */
	if (!c)
		return note && note->stopped ? DROP : PASS;
	a = agent_in(c);
	verdict = a && !(a->flags & FLAG_SETUP) ? decide_packet(a, skb, note) : PASS;
	bpf_cgroup_release(c);
	return verdict;
}
