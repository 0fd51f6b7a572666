import Glibc
import Paths
import Primitives

/// UPnP (Internet Gateway Device) by libminiupnpc, where that is installed: a port of the router is let in, or no longer. Blocks for up to some seconds;
/// one thread at a time.
///
/// The library is opened while the program runs, so nothing needs it to be built or started. It reads HTTP and XML of whoever answers a multicast; of
/// those only a device at the gateway's own address is asked for anything.
final class InternetGateway: @unchecked Sendable {
    private typealias Discover =
        @convention(c) (
            Int32, UnsafePointer<CChar>?, UnsafePointer<CChar>?, Int32, Int32, UInt8, UnsafeMutablePointer<Int32>
        ) -> UnsafeMutableRawPointer?
    private typealias FromURL =
        @convention(c) (
            UnsafePointer<CChar>, UnsafeMutableRawPointer, UnsafeMutableRawPointer, UnsafeMutablePointer<CChar>, Int32
        ) -> Int32
    private typealias Add =
        @convention(c) (
            UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>,
            UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>?,
            UnsafePointer<CChar>
        ) -> Int32
    private typealias Delete =
        @convention(c) (
            UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>,
            UnsafePointer<CChar>?
        ) -> Int32
    private typealias Address =
        @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafeMutablePointer<CChar>) -> Int32
    private typealias Free = @convention(c) (UnsafeMutableRawPointer?) -> Void

    private struct Library {
        let discover: Discover
        let fromURL: FromURL
        let add: Add
        let delete: Delete
        let address: Address
        let freeDevices: Free
        let freeURLs: Free
    }
    /// Where the gateway is asked, and as whom; asked again it is not looked for again.
    private struct Device {
        let gateway: Endpoint
        let control: String
        let service: String
        let local: String
        var external: UInt16?
    }
    /// Those of Debian 12 and 13, Ubuntu 24.04 and Fedora. What is used of the library is the same in all of them.
    static let names = [
        "libminiupnpc.so.17", "libminiupnpc.so.18", "libminiupnpc.so.19", "libminiupnpc.so.20", "libminiupnpc.so.21",
        "libminiupnpc.so",
    ]
    private lazy var library: Library? = Self.open()
    private var device: Device?

    /// `struct UPNPDev`: the next one, then the URL of its description.
    private static let urlOffset = MemoryLayout<UnsafeRawPointer>.size
    /// `struct IGDdatas`: three texts of 128 bytes, an int, then services of four such texts; the first service's kind is its last text.
    private static let (textBytes, serviceOffset) = (128, 3 * 128 + 4 + 4 * 128 + 3 * 128)
    /// More than both structures have.
    private static let structureBytes = 16_384
    private static let discoveryMilliseconds: Int32 = 2000
    private static let (onlyPermanent, conflict): (Int32, Int32) = (725, 718)
    private static let portsTried: UInt16 = 5

    private static func open() -> Library? {
        for name in names {
            guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else { continue }
            func find<T>(_ symbol: String, _ type: T.Type) -> T? {
                dlsym(handle, symbol).map { unsafeBitCast($0, to: type) }
            }
            if let discover = find("upnpDiscover", Discover.self),
                let fromURL = find("UPNP_GetIGDFromUrl", FromURL.self),
                let add = find("UPNP_AddPortMapping", Add.self),
                let delete = find("UPNP_DeletePortMapping", Delete.self),
                let address = find("UPNP_GetExternalIPAddress", Address.self),
                let freeDevices = find("freeUPNPDevlist", Free.self), let freeURLs = find("FreeUPNPUrls", Free.self)
            {
                return Library(
                    discover: discover, fromURL: fromURL, add: add, delete: delete, address: address,
                    freeDevices: freeDevices, freeURLs: freeURLs)
            }
            dlclose(handle)
        }
        return nil
    }
    var isInstalled: Bool { library != nil }

    /// Does what is wished. Blocks.
    func perform(_ wish: IGDWish) -> IGDAnswer {
        guard let library else { return .nobody }
        if device?.gateway != wish.gateway { device = nil }
        guard wish.seconds > 0 else {
            end(wish, library)
            return .nobody
        }
        if device == nil { device = find(wish.gateway, library) }
        guard device != nil else { return .nobody }
        let answer = map(wish, library)
        // Perhaps it has begun anew, and its description is another one.
        if case .refused = answer { device = nil }
        return answer
    }

    private func find(_ gateway: Endpoint, _ library: Library) -> Device? {
        var error: Int32 = 0
        guard let list = library.discover(Self.discoveryMilliseconds, nil, nil, 0, 0, 2, &error) else { return nil }
        defer { library.freeDevices(list) }
        var next: UnsafeMutableRawPointer? = list
        while let entry = next {
            next = entry.load(as: UnsafeMutableRawPointer?.self)
            guard let text = entry.load(fromByteOffset: Self.urlOffset, as: UnsafePointer<CChar>?.self),
                Self.host(ofURL: String(cString: text)) == gateway.address
            else { continue }
            if let found = describe(text, gateway, library) { return found }
        }
        return nil
    }
    private func describe(_ url: UnsafePointer<CChar>, _ gateway: Endpoint, _ library: Library) -> Device? {
        let urls = UnsafeMutableRawPointer.allocate(byteCount: Self.structureBytes, alignment: 16)
        let data = UnsafeMutableRawPointer.allocate(byteCount: Self.structureBytes, alignment: 16)
        urls.initializeMemory(as: UInt8.self, repeating: 0, count: Self.structureBytes)
        data.initializeMemory(as: UInt8.self, repeating: 0, count: Self.structureBytes)
        defer {
            urls.deallocate()
            data.deallocate()
        }
        var local = [CChar](repeating: 0, count: 64)
        guard library.fromURL(url, urls, data, &local, Int32(local.count)) == 1 else { return nil }
        defer { library.freeURLs(urls) }
        let kind = UnsafeRawBufferPointer(start: data + Self.serviceOffset, count: Self.textBytes)
        let service = String(decoding: kind.prefix { $0 != 0 }, as: UTF8.self)
        // The description may name a control URL elsewhere.
        guard let control = urls.load(as: UnsafePointer<CChar>?.self).map({ String(cString: $0) }),
            Self.host(ofURL: control) == gateway.address,
            service.contains("WANIPConnection") || service.contains("WANPPPConnection")
        else { return nil }
        return Device(
            gateway: gateway, control: control, service: service,
            local: String(decoding: local.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }
    private func map(_ wish: IGDWish, _ library: Library) -> IGDAnswer {
        guard let device else { return .nobody }
        for step in 0..<Self.portsTried where UInt32(wish.port) + UInt32(step) <= 65_535 {
            let external = device.external ?? wish.port + step
            var seconds = wish.seconds
            var code = add(device, external, wish.port, "TCP", seconds, library)
            if code == Self.onlyPermanent {
                seconds = 0
                code = add(device, external, wish.port, "TCP", 0, library)
            }
            if code == Self.conflict, device.external == nil { continue }
            guard code == 0 else { return .refused(code == 606 ? .notAuthorized : .other) }
            self.device!.external = external
            let hasDatagrams = add(device, external, wish.port, "UDP", seconds, library) == 0
            var text = [CChar](repeating: 0, count: 64)
            guard library.address(device.control, device.service, &text) == 0,
                let endpoint = Endpoint(
                    String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                        + ":\(external)")
            else { return .refused(.networkFailure) }
            return .forwarded(endpoint, datagramPort: hasDatagrams ? external : nil, seconds: seconds)
        }
        return .refused(.noExternalPort)
    }
    private func add(
        _ device: Device, _ external: UInt16, _ port: UInt16, _ transport: String, _ seconds: UInt32,
        _ library: Library
    ) -> Int32 {
        library.add(
            device.control, device.service, "\(external)", "\(port)", device.local, "atoll", transport, nil,
            "\(seconds)")
    }
    private func end(_ wish: IGDWish, _ library: Library) {
        guard let device, let external = device.external else { return }
        for transport in ["TCP", "UDP"] {
            _ = library.delete(device.control, device.service, "\(external)", transport, nil)
        }
        self.device = nil
    }
    /// Of "http://192.168.1.1:5000/description.xml"; nil where it is a name, which may be anybody's.
    static func host(ofURL url: String) -> [UInt8]? {
        guard url.hasPrefix("http://") else { return nil }
        let rest = url.dropFirst(7).prefix { $0 != "/" }
        return Endpoint(rest.contains(":") ? String(rest) : "\(rest):80")?.address
    }
}
