/// The dashboard: one page without outside assets, for a stream of records or with records in it (docs/DASHBOARD.md).
public enum DashboardPage {
    /// What the browser may do with the page: run this script and this style, and ask the server that it came from.
    /// - Parameter asksServer: not of a file.
    static func policy(nonce: String, asksServer: Bool) -> String {
        "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; base-uri 'none'; form-action 'none'"
            + (asksServer ? "; connect-src 'self'; img-src 'self'; frame-ancestors 'none'" : "")
    }

    /// As a server gives it.
    /// - Parameter records: of something that is over; nil: they come in a stream.
    public static func served(nonce: String, records: [String]? = nil) -> String {
        document(
            nonce: nonce, head: "<link rel=\"icon\" href=\"/favicon.svg\" type=\"image/svg+xml\">",
            records: records.map(embedded) ?? "")
    }

    /// As one file that needs nothing else, with a slider over time.
    /// - Parameter records: JSON, each a record, in the order of their moments.
    public static func file(_ records: [String]) -> String {
        // It keeps out of the file what others might have wanted in it, not from anybody: the file has no secrets.
        let nonce = "atoll"
        let policy = policy(nonce: nonce, asksServer: false)
        return document(
            nonce: nonce, head: "<meta http-equiv=\"Content-Security-Policy\" content=\"\(policy)\">",
            records: embedded(records))
    }
    private static func embedded(_ records: [String]) -> String {
        // Within a script only `<` could end it or begin a comment.
        let data = "[" + records.joined(separator: ",\n").replacing("<", with: "\\u003c") + "]"
        return "<script type=\"application/json\" id=\"records\">\(data)</script>\n"
    }

    /// - Parameter nonce: letters and digits.
    private static func document(nonce: String, head: String, records: String) -> String {
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8">\(head)
        <meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer"><title>Atoll</title>
        <style nonce="\(nonce)">
        \(style)
        </style></head><body>
        \(body)
        \(records)<script nonce="\(nonce)">
        'use strict';
        \(stateScript)
        \(drawingScript)
        \(chartScript)
        \(startScript)
        </script></body></html>

        """
    }

    static let icon = """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="5.5" fill="none" stroke="#2459a9" stroke-width="3"/></svg>
        """
}
