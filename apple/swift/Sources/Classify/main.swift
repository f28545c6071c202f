// Classifies a picture with a `.dlk` model: classify MODEL.dlk PICTURE [DEVICE]
import CoreGraphics
import Dlk
import Foundation
import ImageIO

struct Picture {
  let rgb: [UInt8]
  let width, height: Int

  /// Any file that the system can decode. Transparency becomes black.
  init?(path: String) {
    guard
      let source = CGImageSourceCreateWithURL(URL(fileURLWithPath: path) as CFURL, nil),
      let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
    else { return nil }
    width = image.width
    height = image.height
    var rgba = [UInt8](repeating: 0, count: width * height * 4)
    let drawn = rgba.withUnsafeMutableBytes { bytes -> Bool in
      guard
        let context = CGContext(
          data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8,
          bytesPerRow: width * 4, space: CGColorSpace(name: CGColorSpace.sRGB)!,
          bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
      else { return false }
      context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
      return true
    }
    guard drawn else { return nil }
    rgb = stride(from: 0, to: rgba.count, by: 4).flatMap { rgba[$0..<$0 + 3] }
  }
}

let arguments = CommandLine.arguments
guard arguments.count == 3 || arguments.count == 4 else {
  print("usage: classify MODEL.dlk PICTURE [DEVICE]")
  exit(2)
}
guard let picture = Picture(path: arguments[2]) else {
  print("error: \(arguments[2]) is no picture that this system can read")
  exit(1)
}

do {
  let device = try Device(arguments.count == 4 ? arguments[3] : "")
  let model = try Model(path: arguments[1], device: device)
  let input = try model.prepare(
    rgb: picture.rgb, width: picture.width, height: picture.height)
  let scores = try Session(model).run([input]).values
  let labels = model.labels
  for (index, score) in scores.enumerated().sorted(by: { $0.element > $1.element }).prefix(5) {
    let label = index < labels.count ? labels[index] : "(no label)"
    print(String(format: "%.3f  ", score) + label)
  }
} catch {
  print("error: \(error)")
  exit(1)
}
