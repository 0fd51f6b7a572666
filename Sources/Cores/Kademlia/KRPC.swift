import Primitives
import Wire

/// An error that KRPC can carry (BEP 5; from 205 on BEP 44).
public struct KRPCError: Error, Hashable, Sendable, CustomStringConvertible {
    public let code: Int
    public let text: String
    public init(_ code: Int, _ text: String) {
        self.code = code
        self.text = text
    }
    public var description: String { "\(code) \(text)" }

    public static let server = KRPCError(202, "server error")
    public static func protocolError(_ what: String) -> KRPCError { KRPCError(203, what) }
    public static let badToken = KRPCError(203, "bad token")
    public static let unknownMethod = KRPCError(204, "method unknown")
    public static let valueTooBig = KRPCError(205, "v is longer than 1000 bytes")
    public static let badSignature = KRPCError(206, "bad signature")
    public static let saltTooBig = KRPCError(207, "salt is longer than 64 bytes")
    public static let casMismatch = KRPCError(301, "cas is not the stored seq")
    public static let oldSequence = KRPCError(302, "seq is lower than the stored one, or equal with another value")
}

/// What a node asks of another (BEP 5, 44, 51). Byte fields are slices of the datagram they came in.
package enum KRPCMethod: Sendable {
    case ping
    case findNode(target: NodeID)
    case getPeers(infoHash: NodeID)
    case announcePeer(infoHash: NodeID, port: UInt16, implied: Bool, token: ArraySlice<UInt8>)
    /// `sequence`: leave the value out unless it is newer than this.
    case get(target: NodeID, sequence: Int64?)
    case put(StoreRequest)
    case sampleInfoHashes(target: NodeID)
    /// Ours, in closed pools only: dial me back on TCP and UDP at the address this came from. The token is one for the
    /// sender's ID; the nonce, 8 bytes, comes back in a ``probe(nonce:)`` from a socket that the sender never wrote to.
    case reach(port: UInt16, token: ArraySlice<UInt8>, nonce: UInt64)
    /// Ours, in closed pools only: dial somebody back in my place, whose address (compact) is not one that you have heard of from it: a router
    /// lets in whom its host has written to. The token is one for the sender's ID; answered as ``reach(port:token:nonce:)`` is.
    case dial(ArraySlice<UInt8>, port: UInt16, token: ArraySlice<UInt8>, nonce: UInt64)
    /// Ours: the UDP half of a dial-back. Unanswered.
    case probe(nonce: UInt64)

    package struct StoreRequest: Sendable {
        package var token: ArraySlice<UInt8>
        package var item: StoredItem
        package var cas: Int64?
        package init(token: ArraySlice<UInt8>, item: StoredItem, cas: Int64?) {
            self.token = token
            self.item = item
            self.cas = cas
        }
    }
}

/// Which families of nodes an answer should list (BEP 32).
package struct Want: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let ipv4 = Want(rawValue: 1)
    package static let ipv6 = Want(rawValue: 2)
}

package struct KRPCQuery: Sendable {
    package var sender: NodeID
    package var method: KRPCMethod
    /// Empty when the query did not say: the family it came over.
    package var want: Want = []
    package init(sender: NodeID, method: KRPCMethod, want: Want = []) {
        self.sender = sender
        self.method = method
        self.want = want
    }
}

/// The `r` dictionary with everything any method may put in it.
package struct KRPCAnswer: Sendable {
    package var sender: NodeID
    package var token: ArraySlice<UInt8>?
    /// Raw compact entries, 26 bytes each.
    package var nodes: ArraySlice<UInt8>?
    /// Raw compact entries, 38 bytes each.
    package var nodes6: ArraySlice<UInt8>?
    /// Compact endpoints of 6 or 18 bytes, unchecked.
    package var values: [ArraySlice<UInt8>]?
    /// An item's value, encoded.
    package var value: ArraySlice<UInt8>?
    package var key: ArraySlice<UInt8>?
    package var sequence: Int64?
    package var signature: ArraySlice<UInt8>?
    package var samples: ArraySlice<UInt8>?
    package var number: Int64?
    package var interval: Int64?
    /// Answer to ``KRPCMethod/reach(port:token:nonce:)``: whether TCP arrived.
    package var reached: Bool?
    package init(sender: NodeID) { self.sender = sender }
}

/// One datagram, understood.
package struct KRPCMessage: Sendable {
    package enum Body: Sendable {
        case query(KRPCQuery)
        /// A query that cannot be served; it is owed this error.
        case refusedQuery(KRPCError)
        case answer(KRPCAnswer)
        case error(KRPCError)
    }
    package var transaction: ArraySlice<UInt8>
    package var body: Body
    /// `ro` (BEP 43): the sender answers nothing.
    package var isReadOnly = false
    /// `ip` (BEP 42): the compact address under which the sender saw us.
    package var observed: ArraySlice<UInt8>?
    /// Carries some pool's seal. For an open pool: the sender belongs elsewhere.
    package var isSealed = false
    package init(transaction: ArraySlice<UInt8>, body: Body) {
        self.transaction = transaction
        self.body = body
    }
}
