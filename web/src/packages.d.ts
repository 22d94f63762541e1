// What the packages do not say of themselves.
declare module "*/decodewasm" {
  const file: string;
  export default file;
}
declare module "jpeg-lossless-decoder-js" {
  export class Decoder {
    xDim: number;
    yDim: number;
    numComp: number;
    decode(buffer: ArrayBuffer, offset: number, length: number): Uint8Array | Uint16Array | null;
  }
}
declare module "*/decodewasmjs" {
  const make: (options: object) => Promise<any>;
  export default make;
}
