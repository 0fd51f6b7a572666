/// What a client asked for, complete.
public struct WebRequest: Sendable {
    public let method: String
    /// Decoded, without the query.
    public let path: String
    public let body: [UInt8]
    /// By lower-case name; those that ``WebServer`` looks at.
    public let headers: [String: String]
}

/// Limits of a server: nobody outside decides how much is taken.
public struct WebLimits: Sendable {
    public var connections = 64
    public var connectionsPerAddress = 32
    /// Of a request's body.
    public var bodyBytes = 8 << 20
    /// Bodies of all requests together.
    public var bodyBytesTogether = 64 << 20
    /// Of a request's line and headers.
    public var headerBytes = 64 << 10
    /// What a client may leave unread of a stream before it counts as gone.
    public var unreadBytes = 1 << 20
    public var idleSeconds = 30
    /// Until the head of a connection's first request is complete.
    public var headSeconds = 10
    /// For all of a request, however slowly its body comes.
    public var requestSeconds = 300
    public init() {}
}

/// Who may ask.
public struct WebAccess: Sendable {
    /// `Authorization: Bearer KEY` must be there.
    public var key: String?
    /// Names that `Host` may have, without the port; empty: any. On loopback it keeps out pages that a browser shows under
    /// another name (DNS rebinding).
    public var hosts: [String]

    public init(key: String?, hosts: [String]) {
        self.key = key
        self.hosts = hosts
    }
    /// What a server on loopback takes.
    public static let loopbackHosts = ["localhost", "127.0.0.1", "::1"]

    /// nil if the request may be answered; else the status that refuses it.
    func refusal(_ headers: [String: String]) -> Int? {
        if !hosts.isEmpty {
            guard let host = headers["host"].map(Self.name), hosts.contains(host) else { return 403 }
            // A page of somebody else's in this machine's browser.
            if let origin = headers["origin"] {
                guard let scheme = origin.range(of: "://"),
                    hosts.contains(Self.name(String(origin[scheme.upperBound...])))
                else { return 403 }
            }
        }
        guard let key else { return nil }
        guard let given = headers["authorization"], given.utf8.count == key.utf8.count + 7,
            given.lowercased().hasPrefix("bearer ")
        else { return 401 }
        // Every byte is looked at, whatever the first ones are.
        let difference = zip(given.utf8.dropFirst(7), key.utf8).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) }
        return difference == 0 ? nil : 401
    }

    /// Without the port.
    static func name(_ host: String) -> String {
        if host.hasPrefix("["), let end = host.firstIndex(of: "]") {
            return String(host[host.index(after: host.startIndex)..<end])
        }
        return String(host.prefix { $0 != ":" && $0 != "/" }).lowercased()
    }
}

extension String {
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
