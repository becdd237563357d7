// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Who owns the client end of a TCP connection: a server on this machine can ask the daemon. */

/* The other end is on this machine: nobody else could ask. */
static __always_inline bool is_local(const struct TcpPeerKey *k)
{
	const __u64 *client = (const __u64 *)k->client_addr, *server = (const __u64 *)k->server_addr;

	return (client[0] == server[0] && client[1] == server[1]) ||
	       (!server[0] && ((const __u32 *)k->server_addr)[2] == V4_MAPPED && k->server_addr[12] == 127);
}

/* An agent with too many connections is not known by the next ones: they are nobody's. */
static __always_inline void peer_comes(struct TcpPeerKey *k, __u64 owner)
{
	__u32 none = 0, *count;

	count = bpf_map_lookup_elem(&peer_counts, &owner);
	if (!count) {
		bpf_map_update_elem(&peer_counts, &owner, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&peer_counts, &owner);
	}
	if (!count || *count >= PEERS_MAX)
		return;
	if (!bpf_map_update_elem(&tcp_peers, k, &owner, BPF_NOEXIST))
		__sync_fetch_and_add(count, 1);
}

static __always_inline void peer_goes(struct TcpPeerKey *k, __u64 owner)
{
	__u32 *count;

	if (bpf_map_delete_elem(&tcp_peers, k))
		return;
	count = bpf_map_lookup_elem(&peer_counts, &owner);
	if (count)
		__sync_fetch_and_add(count, -1);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int before, int after)
{
	struct socket_note *note;
	struct TcpPeerKey k = {};
	struct NetKey end = {};

	if (after != TCP_ESTABLISHED && after != TCP_CLOSE)
		return 0;
	note = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!note || !note->outgoing || !is_inet(sk))
		return 0;
	local_key(&end, sk);
	__builtin_memcpy(k.client_addr, end.addr, 16);
	if (after == TCP_ESTABLISHED)
		note->local_port = end.port;
	k.client_port = note->local_port;
	peer_key(&end, sk);
	__builtin_memcpy(k.server_addr, end.addr, 16);
	k.server_port = end.port;
	if (after == TCP_CLOSE)
		peer_goes(&k, note->owner);
	else if (is_local(&k))
		peer_comes(&k, note->owner);
	return 0;
}
