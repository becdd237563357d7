// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Who owns the client end of a TCP connection: a server on this machine can ask the daemon. */

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int before, int after)
{
	struct socket_note *note;
	struct TcpPeerKey k = {};
	struct NetKey end = {};
	__u64 owner;

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
	if (after == TCP_CLOSE) {
		bpf_map_delete_elem(&tcp_peers, &k);
	} else {
		owner = note->owner;
		bpf_map_update_elem(&tcp_peers, &k, &owner, BPF_ANY);
	}
	return 0;
}
