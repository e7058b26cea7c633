//! Python's `strftime` in English, without a clock or a time zone of its own.

use std::time::Duration;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// What Python's `strftime` writes of a time without a zone, as `datetime.now()` is one; a code it
/// does not have stays as written. `ahead`: seconds that local time is ahead of UTC.
pub(super) fn strftime(format: &str, since_1970: Duration, ahead: i64) -> String {
    let unix_seconds = since_1970.as_secs().saturating_add_signed(ahead);
    let again = |format| strftime(format, since_1970, ahead);
    let (days, second_of_day) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    let (year, month, day, day_of_year) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[((days + 4) % 7) as usize];
    let hour_12 = (hour + 11) % 12 + 1;

    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut code = letters.next();
        let bare = code == Some('-');
        if bare {
            code = letters.next();
        }
        let two = |n: u64| {
            if bare {
                n.to_string()
            } else {
                format!("{n:02}")
            }
        };
        let part = match code {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') if bare => day.to_string(),
            Some('e') => format!("{day:2}"),
            Some('j') if bare => day_of_year.to_string(),
            Some('j') => format!("{day_of_year:03}"),
            Some('H') => two(hour),
            Some('I') => two(hour_12),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('w') => ((days + 4) % 7).to_string(),
            Some('F') => again("%Y-%m-%d"),
            Some('T' | 'X') => again("%H:%M:%S"),
            Some('R') => again("%H:%M"),
            Some('D' | 'x') => again("%m/%d/%y"),
            Some('c') => again("%a %b %e %H:%M:%S %Y"),
            Some('Z' | 'z') => String::new(),
            Some('s') => since_1970.as_secs().to_string(),
            Some('f') => format!("{:06}", since_1970.subsec_micros()),
            Some('n') => "\n".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{}{other}", if bare { "-" } else { "" }),
            None => "%".to_owned(),
        };
        text.push_str(&part);
    }
    text
}

/// Year, month, day and day of the year of a day since 1970 in the Gregorian calendar.
/// Years are counted from March, so that the leap day comes last and months have a formula.
pub(super) fn civil(days: u64) -> (u64, u64, u64, u64) {
    // Days are counted from 1 March of year 0.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_from_march + 2) / 153;
    let day = day_from_march - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let day_of_year = match month {
        1 | 2 => day_from_march - 306 + 1,
        _ => day_from_march + 60 + u64::from(leap),
    };
    (year, month, day, day_of_year)
}
