//! The table of a plan, and what is said below it.

use super::super::unread;
use super::Plans;
use crate::output::{Align, Table, gigabytes, memory};

pub(super) fn text(plans: &Plans) -> String {
    use Align::{Left, Right};
    // Where nothing is kept in RAM for streaming, or for the run itself, there is no column of it.
    let has_homes = plans.plans.iter().any(|row| row.home_bytes > 0);
    let has_reserve = plans.plans.iter().any(|row| row.reserve_bytes > 0);
    let mut heads = vec![
        "N",
        "resident",
        "streamed",
        "per token",
        "slots",
        "KV",
        "ends+buffers",
    ];
    if has_homes {
        heads.push("homes");
    }
    if has_reserve {
        heads.push("reserve");
    }
    heads.push("total");
    let measured = plans.disk_gbps.is_some() || plans.ram_gbps.is_some();
    match (measured, plans.ram_gbps) {
        (true, Some(_)) => heads.extend(["disk tok/s", "RAM tok/s"]),
        (true, None) => heads.push("disk tok/s"),
        (false, _) => heads.push("floor ms"),
    }
    let mut columns = vec![Right; heads.len()];
    columns.push(Left);
    heads.push("");
    let mut table = Table::new(&columns, 0);
    table.push(heads.into_iter().map(str::to_owned).collect());
    for row in &plans.plans {
        let mark = match (row.fits, plans.auto == Some(row.resident)) {
            (_, true) => "fits  <- auto",
            (true, false) => "fits",
            (false, false) => "too large",
        };
        let mut cells = vec![
            row.resident.to_string(),
            memory(row.resident_bytes),
            row.streamed.to_string(),
            gigabytes(row.streamed_bytes_per_token),
            format!("{} x {}", row.slots, memory(plans.block_bytes)),
            memory(row.cache_bytes),
            memory(row.ends_bytes + row.scratch_bytes + row.buffer_bytes + row.packing_bytes),
        ];
        if has_homes {
            cells.push(memory(row.home_bytes));
        }
        if has_reserve {
            cells.push(memory(row.reserve_bytes));
        }
        cells.push(memory(row.total_bytes));
        let number = |value: Option<f64>, digits| {
            value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
        };
        match (measured, plans.ram_gbps) {
            (true, Some(_)) => cells.extend([
                number(row.disk_tokens_per_s, 2),
                number(row.ram_tokens_per_s, 1),
            ]),
            (true, None) => cells.push(number(row.disk_tokens_per_s, 2)),
            (false, _) => cells.push(number(row.link_floor_ms, 1)),
        }
        cells.push(mark.into());
        table.push(cells);
    }
    let limit = match plans.memory_bytes {
        Some(bytes) => memory(bytes),
        None => "no known limit".into(),
    };
    let gbps =
        |rate: Option<f64>| rate.map_or_else(|| "-".into(), |rate| format!("{rate:.2} GB/s"));
    let ram = match plans.ram_gbps {
        Some(_) => format!(", {} from RAM\n(--weights ram)", gbps(plans.ram_gbps)),
        None => String::new(),
    };
    let floor = match plans.link_gbps {
        _ if measured => format!(
            "tok/s: predicted, the most that the rates measured now allow: {} from disk ({}){ram}. \
             Compute can make it less; `engine tune` runs the plans and says what they give.\n\
             --link-gbps shows another link.",
            gbps(plans.disk_gbps),
            plans.access,
        ),
        Some(gbps) => format!(
            "floor ms: what an emulated link of {gbps} GB/s takes for a token. Compute comes on \
             top where it is\nslower than the link; it is unknown without running."
        ),
        None if plans.unmeasured.is_some() => format!(
            "tok/s: the rates of disk and memory were not measured, because {}.\n--link-gbps shows \
             what a link takes for a token.",
            plans.unmeasured.unwrap_or_default()
        ),
        None => "floor ms: give --link-gbps to see what a link takes for a token; compute is \
                 unknown without running."
            .into(),
    };
    let one_slot = match &plans.one_slot {
        Some(one) => format!(
            "\nslots: one was chosen, which leaves room for a layer more: {:.1} ms a token predicted; \
             with two and N = {} {:.1}.",
            one.token_ms, one.two_resident, one.two_token_ms
        ),
        None => String::new(),
    };
    let cache = match plans.smaller_cache {
        Some(smaller) => format!(
            "\nKV: --cache-type f16 or bf16 would take {} less, and N = {} would fit.",
            memory(smaller.saved_bytes),
            smaller.resident
        ),
        None => String::new(),
    };
    let homes = match (has_homes, plans.host_bytes) {
        (false, _) => String::new(),
        (true, None) => "\nhomes: RAM that streamed layers come from; part of the total.".into(),
        (true, Some(bytes)) => format!(
            "\nhomes: RAM that streamed layers come from, beside the total{}; {} of RAM are \
             available.",
            match plans.emulated {
                true => ", which is RAM here as well",
                false => "",
            },
            memory(bytes)
        ),
    };
    let reserve = match has_reserve {
        true => "\nreserve: for the program, its threads, tokenizer and page tables.",
        false => "",
    };
    let place = match has_reserve {
        true => "out of the reserve",
        false => "beside the total",
    };
    let beside = match (plans.program_bytes, plans.tokenizer_bytes) {
        (Some(program), Some(0)) => format!("\n{place}: {} for the program.", memory(program)),
        (Some(program), Some(tokenizer)) => format!(
            "\n{place}: {} for the program, {} at most for the tokenizer.",
            memory(program),
            memory(tokenizer)
        ),
        _ => String::new(),
    };
    let unread = match unread::line(&plans.unread, &plans.unread_files) {
        Some(line) => format!("\n\n{line}"),
        None => String::new(),
    };
    format!(
        "{}: {} layers of {}, {}, resident {}, context {} (KV in {}), memory \
         {limit}\n\n{table}\n\n{floor}{one_slot}{cache}{homes}{reserve}{beside}{unread}",
        plans.model,
        plans.layers,
        memory(plans.block_bytes),
        plans.dtype,
        plans.resident_form,
        plans.context,
        plans.cache_type,
    )
}
