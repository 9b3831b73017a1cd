//! Answers of bulk requests.

use serde_json::Value;

/// The first thing that went wrong in a bulk request, by the name of its document. What was not newer is none: the index holds
/// what is; nor is the deletion of what is not there.
pub(super) fn bulk_problem(body: &Value) -> Option<String> {
    let Some(items) = body["items"].as_array() else {
        return Some("an answer that is none of a bulk request".to_owned());
    };
    let outcomes = items.iter().filter_map(|item| item.as_object()?.iter().next());
    let bad = |(action, outcome): &(&String, &Value)| {
        let status = outcome["status"].as_u64().unwrap_or_default();
        !(200..300).contains(&status) && status != 409 && !(status == 404 && *action == "delete")
    };
    let mut bad = outcomes.filter(bad);
    let (action, outcome) = bad.next()?;
    let more = match bad.count() {
        0 => String::new(),
        n => format!(" ({n} more)"),
    };
    let error = &outcome["error"];
    let reasons = [&error["reason"], &error["caused_by"]["reason"]];
    let reason = reasons.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(": ");
    let reason: String = reason.chars().take(300).collect();
    let id: String = outcome["_id"].as_str().unwrap_or("?").chars().take(100).collect();
    let full = if outcome["status"] == 429 || reason.contains("flood") { "; it is overloaded or full" } else { "" };
    Some(format!("{action} of {id:?}: HTTP {}: {reason}{more}{full}", outcome["status"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bulk_problems_are_told_by_name_and_late_writes_are_none() {
        let late = json!({ "items": [{ "index": { "_id": "a", "status": 409 } }, { "delete": { "_id": "b", "status": 404 } }] });
        assert_eq!(bulk_problem(&late), None);
        let bad = json!({ "items": [
            { "index": { "_id": "a", "status": 400, "error": { "reason": "Vector dimension mismatch" } } },
            { "index": { "_id": "b", "status": 429, "error": { "reason": "rejected" } } },
        ] });
        let problem = bulk_problem(&bad).unwrap();
        assert!(
            problem.contains("\"a\"") && problem.contains("dimension mismatch") && problem.contains("1 more"),
            "{problem}"
        );
        assert!(bulk_problem(&json!({ "error": "no" })).is_some());
    }
}
