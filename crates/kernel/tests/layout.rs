//! Every type that programs and daemon share has the same size and offsets on both sides.
//!
//! The programs' side is read from the BTF of the compiled object.

use abi::agent::KernelAgent;
use abi::caps::{
    AbstractKey, Counted, CountedKey, FileKey, FileNode, Grant, GrantKey, NetKey, OpenedFile,
    PlainKey, RightsList, Taken, TakenFile, TcpPeerKey, UseCounter,
};
use abi::control::{Control, Policy, Resolved};
use abi::event::{Event, SockObject};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::HasSize;
use libbpf_rs::btf::types::{MemberAttr, Struct};

/// Compares one struct, field by field.
fn compare(btf: &Btf<'_>, name: &str, size: usize, fields: &[(&str, usize)]) {
    let there: Struct<'_> =
        btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name} in the object"));
    assert_eq!(there.size(), size, "size of {name}");
    assert_eq!(there.len(), fields.len(), "number of fields of {name}");
    for member in there.iter() {
        let field = member.name.unwrap_or_default().to_string_lossy();
        let MemberAttr::Normal { offset } = member.attr else {
            panic!("{name}.{field} is a bit field");
        };
        let here = fields.iter().find(|(f, _)| *f == field);
        let (_, at) = here.unwrap_or_else(|| panic!("{name}.{field} is only in the object"));
        assert_eq!(offset as usize, at * 8, "offset of {name}.{field} in bits");
    }
}

macro_rules! same {
    ($btf:expr, $name:ident { $($field:ident),+ $(,)? }) => {
        let fields = [$((stringify!($field), core::mem::offset_of!($name, $field))),+];
        compare($btf, stringify!($name), size_of::<$name>(), &fields);
    };
}

#[test]
fn sizes_and_offsets_agree_with_the_compiled_programs() {
    let btf = Btf::from_path(env!("COCONUT_BPF_OBJECT")).expect("the object has BTF");
    let b = &btf;
    same!(
        b,
        KernelAgent {
            aid,
            list,
            state,
            flags,
            denials,
            uses,
            program,
            interpreter,
            mapped,
            main,
            ended,
            status,
            round,
            burst,
            reserved
        }
    );
    same!(b, RightsList { sets, count, net, abstracts, reserved });
    same!(b, FileKey { dev, ino });
    same!(b, FileNode { file, sets, epoch });
    same!(b, GrantKey { set, file, layer });
    same!(b, Grant { rights, rule, expires_ns });
    same!(b, OpenedFile { file, list, stamp, by, rights, check });
    same!(b, NetKey { prefix_len, set, op, port, addr });
    same!(b, AbstractKey { set, len, name });
    same!(b, PlainKey { set, what });
    same!(b, CountedKey { set, rule });
    same!(b, Counted { expires_ns, counter, rights });
    same!(b, UseCounter { id, left });
    same!(b, Taken { id, counter, rule, rights, by });
    same!(b, TakenFile { uses });
    same!(b, TcpPeerKey { client_addr, server_addr, client_port, server_port, reserved });
    same!(
        b,
        Policy {
            sealed,
            daemon_tgid,
            epoch,
            slice_level,
            agent_level,
            slice_id,
            slice_address,
            high_water,
            seal_water,
            moves,
            moving,
            throttles,
            mount_namespace,
            guarded,
            successor,
            gone_ns,
            grace_ns,
            halted,
            admissions,
            next_list,
            share_water,
            share,
            round,
            next_set,
            lost_told,
            secret,
            own,
            own_above,
            own_devices,
            own_disks,
            own_passthrough,
            counted,
            reserved,
            layout
        }
    );
    same!(b, Control { op, reserved, value, cgroup, file, interpreter, sets, grant, number });
    same!(b, Resolved { file, depth, flags, above });
    same!(b, SockObject { family, port, kind, addr });
    same!(
        b,
        Event {
            time_ns,
            aid,
            sequence,
            kind,
            cpu,
            pid,
            hook,
            verdict,
            wanted,
            rule,
            set,
            object_len,
            reserved,
            dev,
            ino,
            comm,
            object,
        }
    );
}
